package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// When start-up is over, and how often pages of the program's file and, less
// often since it costs a collection, freed heap are given back after that.
const (
	settled   = 15 * time.Second
	pagesTrim = 30 * time.Second
	heapTrim  = 10
)

// garbagePercent is how far the heap may grow between collections where GOGC
// does not say: half of Go's default, memory for processor time.
const garbagePercent = 50

// Trim is the part that gives back memory that only the start or a burst
// needed: freed heap, and clean pages of the program's own file, most of which
// package initialization touches once (docs/adr/0004).
func Trim(log *zap.Logger) Part {
	return Part{Name: "trim", Run: func(ctx context.Context) error {
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(garbagePercent)
		}
		wait := settled
		for n := 0; ; n++ {
			select {
			case <-time.After(wait):
				wait = pagesTrim
				if n%heapTrim == 0 {
					debug.FreeOSMemory()
				}
				if err := dropFilePages(); err != nil {
					log.Debug("pages of the program's file are kept", zap.Error(err))
				}
			case <-ctx.Done():
				return nil
			}
		}
	}}
}

// dropFilePages tells the kernel that the read-only mappings of the program's
// file are not needed now. A page that is used again is mapped again from the
// page cache: a minor fault.
func dropFilePages() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program's file: %w", err)
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("read the mappings: %w", err)
	}
	defer func() { _ = f.Close() }()
	var errs []error
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		// Only what cannot have been written to: dropping a private page that
		// was would lose it.
		if len(fields) < 6 || fields[5] != exe || strings.Contains(fields[1], "w") {
			continue
		}
		errs = append(errs, drop(fields[0]))
	}
	return errors.Join(append(errs, lines.Err())...)
}

// drop advises the kernel about one range of addresses, "from-to" in hex.
func drop(text string) error {
	from, to, _ := strings.Cut(text, "-")
	start, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return fmt.Errorf("mapping %s: %w", text, err)
	}
	end, err := strconv.ParseUint(to, 16, 64)
	if err != nil {
		return fmt.Errorf("mapping %s: %w", text, err)
	}
	_, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
	if errno != 0 {
		return fmt.Errorf("mapping %s: %w", text, errno)
	}
	return nil
}
