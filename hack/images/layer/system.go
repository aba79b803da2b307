package layer

import (
	"fmt"
	"path/filepath"
)

// System is what a program expects of any machine.
func System() []Entry {
	return []Entry{
		{To: "/etc/passwd", Text: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n", Mode: 0o644},
		{To: "/etc/group", Text: "root:x:0:\nnogroup:x:65534:\n", Mode: 0o644},
		{To: "/etc/nsswitch.conf", Text: "hosts: files dns\n", Mode: 0o644},
		{To: "/tmp", Dir: true, Mode: 0o1777},
		{To: "/root", Dir: true, Mode: 0o700},
		{To: "/run", Dir: true, Mode: 0o755},
		{To: "/var/lib", Dir: true, Mode: 0o755},
	}
}

// Merged are the links of a system whose /bin, /sbin and /lib are in /usr.
func Merged() []Entry {
	var out []Entry
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		out = append(out, Entry{To: "/usr/" + d, Dir: true, Mode: 0o755}, Entry{To: "/" + d, Link: "usr/" + d})
	}
	return out
}

// Busybox is a small system with busybox's applets. Its shell and wget are programs in the folder: Debian's busybox drops environment
// names with dashes, and its static wget cannot resolve names.
func Busybox(programs string) ([]Entry, error) {
	box, shell := Glob([]string{"/usr/bin/busybox", "/bin/busybox"}), Glob([]string{"/usr/bin/bash-static", "/bin/bash-static", "/usr/bin/bash"})
	if len(box) == 0 || len(shell) == 0 {
		return nil, fmt.Errorf("busybox or bash is not on this machine: apt-get install busybox-static bash-static")
	}
	out := append(System(), Merged()...)
	out = append(out,
		Entry{To: "/usr/bin/busybox", From: box[0]}, Entry{To: "/usr/bin/bash", From: shell[0]},
		Entry{To: "/usr/bin/sh", From: filepath.Join(programs, "sh")}, Entry{To: "/usr/bin/ash", Link: "sh"},
		Entry{To: "/usr/bin/wget", From: filepath.Join(programs, "wget")})
	applets, err := output(box[0], "--list")
	if err != nil {
		return nil, err
	}
	for _, a := range applets {
		if a != "sh" && a != "ash" && a != "bash" && a != "wget" && a != "busybox" {
			out = append(out, Entry{To: "/usr/bin/" + a, Link: "busybox"})
		}
	}
	libs, err := Libraries([]string{box[0], shell[0]})
	return append(out, libs...), err
}
