package app

import (
	"bufio"
	"context"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// When start-up code has run, how often memory is let go after that, and how far the heap may grow between collections.
const (
	settled        = 15 * time.Second
	trimPeriod     = 5 * time.Minute
	garbagePercent = 50
)

// trim lets go of what is not needed any more: freed heap, and the pages of the program file that were mapped while
// packages initialized or a burst of pods started. Such pages are clean: one that is used again is mapped again from the page cache.
func (k *kubelet) trim(ctx context.Context) error {
	debug.SetGCPercent(garbagePercent)
	wait := settled
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = trimPeriod
		debug.FreeOSMemory()
		if err := dropFilePages(); err != nil {
			k.log.Debug("drop unused pages of the program file", zap.Error(err))
		}
	}
}

// dropFilePages advises the kernel about the read-only mappings of the program file.
func dropFilePages() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) < 6 || fields[5] != exe || strings.Contains(fields[1], "w") {
			continue
		}
		from, to, ok := strings.Cut(fields[0], "-")
		if !ok {
			continue
		}
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil || end <= start {
			continue
		}
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
		if errno != 0 {
			return errno
		}
	}
	return sc.Err()
}
