package resource

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// containerSecurity checks a container's security context; hostUsers is
// whether the pod lives in the host's user namespace.
func (c *checks) containerSecurity(s *corev1.SecurityContext, p *field.Path, hostUsers bool) {
	if s == nil {
		return
	}
	c.userAndGroup(s.RunAsUser, s.RunAsGroup, p)
	if s.ProcMount != nil {
		at := p.Child("procMount")
		oneOf(c, at, *s.ProcMount, corev1.DefaultProcMount, corev1.UnmaskedProcMount)
		if hostUsers && *s.ProcMount == corev1.UnmaskedProcMount {
			c.invalid(at, s.ProcMount, "`hostUsers` must be false to use `Unmasked`")
		}
	}
	c.seccomp(s.SeccompProfile, p.Child("seccompProfile"))
	if s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation {
		if privileged(s) {
			c.invalid(p, shown(s), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
		}
		if s.Capabilities != nil {
			for _, x := range s.Capabilities.Add {
				if x == "CAP_SYS_ADMIN" {
					c.invalid(p, shown(s), "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
				}
			}
		}
	}
	c.windowsOptions(s.WindowsOptions, p.Child("windowsOptions"))
	c.appArmor(s.AppArmorProfile, p.Child("appArmorProfile"))
}

func (c *checks) userAndGroup(user, group *int64, p *field.Path) {
	if user != nil {
		c.invalid(p.Child("runAsUser"), *user, validation.IsValidUserID(*user)...)
	}
	if group != nil {
		c.invalid(p.Child("runAsGroup"), *group, validation.IsValidGroupID(*group)...)
	}
}

func (c *checks) podSecurity(s *corev1.PodSpec, p *field.Path) {
	x := s.SecurityContext
	if x == nil {
		return
	}
	if x.FSGroup != nil {
		c.invalid(p.Child("fsGroup"), *x.FSGroup, validation.IsValidGroupID(*x.FSGroup)...)
	}
	c.userAndGroup(x.RunAsUser, x.RunAsGroup, p)
	for i, g := range x.SupplementalGroups {
		c.invalid(p.Child("supplementalGroups").Index(i), g, validation.IsValidGroupID(g)...)
	}
	c.sysctls(x.Sysctls, s, p.Child("sysctls"))
	if x.FSGroupChangePolicy != nil {
		oneOf(c, p.Child("fsGroupChangePolicy"), *x.FSGroupChangePolicy, corev1.FSGroupChangeOnRootMismatch, corev1.FSGroupChangeAlways)
	}
	c.seccomp(x.SeccompProfile, p.Child("seccompProfile"))
	c.windowsOptions(x.WindowsOptions, p.Child("windowsOptions"))
	c.appArmor(x.AppArmorProfile, p.Child("appArmorProfile"))
	if x.SupplementalGroupsPolicy != nil {
		oneOf(c, p.Child("supplementalGroupsPolicy"), *x.SupplementalGroupsPolicy, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	}
	if x.SELinuxChangePolicy != nil {
		oneOf(c, p.Child("seLinuxChangePolicy"), *x.SELinuxChangePolicy, corev1.SELinuxChangePolicyRecursive, corev1.SELinuxChangePolicyMountOption)
	}
}

const sysctlMax = 253

var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

// ipcSysctls are the namespaced System V IPC parameters, ipc_namespaces(7).
var ipcSysctls = sets.New("kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.msg")

func (c *checks) sysctls(list []corev1.Sysctl, s *corev1.PodSpec, p *field.Path) {
	seen := sets.Set[string]{}
	for i, x := range list {
		at := p.Index(i).Child("name")
		switch {
		case x.Name == "":
			c.required(at, "")
		case len(x.Name) > sysctlMax || !sysctlName.MatchString(x.Name):
			c.invalid(at, x.Name, fmt.Sprintf("must have at most %d characters and match regex %s", sysctlMax, sysctlName))
		case seen.Has(x.Name):
			c.duplicate(at, x.Name)
		}
		name := strings.ReplaceAll(x.Name, "/", ".")
		switch {
		case s.HostNetwork && strings.HasPrefix(name, "net."):
			c.invalid(at, x.Name, "may not be specified when 'hostNetwork' is true")
		case s.HostIPC && (ipcSysctls.Has(name) || strings.HasPrefix(name, "fs.mqueue.")):
			c.invalid(at, x.Name, "may not be specified when 'hostIPC' is true")
		}
		seen.Insert(x.Name)
	}
}

func (c *checks) seccomp(s *corev1.SeccompProfile, p *field.Path) {
	if s == nil {
		return
	}
	if s.Type == "" {
		c.required(p.Child("type"), "type is required when seccompProfile is set")
	} else {
		oneOfRequired(c, p.Child("type"), s.Type, corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	}
	at := p.Child("localhostProfile")
	switch {
	case s.Type == corev1.SeccompProfileTypeLocalhost && s.LocalhostProfile == nil:
		c.required(at, "must be set when seccomp type is Localhost")
	case s.Type == corev1.SeccompProfileTypeLocalhost:
		c.descending(at, *s.LocalhostProfile)
	case s.LocalhostProfile != nil:
		c.invalid(at, shown(s), "can only be set when seccomp type is Localhost")
	}
}

func (c *checks) appArmor(a *corev1.AppArmorProfile, p *field.Path) {
	const longest = 4095
	if a == nil {
		return
	}
	at := p.Child("localhostProfile")
	switch a.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		if a.LocalhostProfile == nil {
			c.required(at, "must be set when AppArmor type is Localhost")
			return
		}
		if name := *a.LocalhostProfile; strings.TrimSpace(name) != name {
			c.invalid(at, name, "must not be padded with whitespace")
		} else if name == "" {
			c.required(at, "must be set when AppArmor type is Localhost")
		}
		if len(*a.LocalhostProfile) > longest {
			c.list = append(c.list, field.TooLong(at, "", longest))
		}
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if a.LocalhostProfile != nil {
			c.invalid(at, a.LocalhostProfile, "can only be set when AppArmor type is Localhost")
		}
	case "":
		c.required(p.Child("type"), "type is required when appArmorProfile is set")
	default:
		oneOfRequired(c, p.Child("type"), a.Type, corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	}
}

var (
	controlChars  = regexp.MustCompile(`[[:cntrl:]]+`)
	netBIOSDomain = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	windowsDomain = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	badUserChars  = regexp.MustCompile(`["/\\:;|=,\+\*\?<>@\[\]]`)
	dotsAndSpaces = regexp.MustCompile(`^[\. ]+$`)
)

func (c *checks) windowsOptions(w *corev1.WindowsSecurityContextOptions, p *field.Path) {
	const longestSpec = 64 << 10
	if w == nil {
		return
	}
	if w.GMSACredentialSpecName != nil {
		c.invalid(p.Child("gmsaCredentialSpecName"), w.GMSACredentialSpecName, validation.IsDNS1123Subdomain(*w.GMSACredentialSpecName)...)
	}
	if w.GMSACredentialSpec != nil {
		at := p.Child("gmsaCredentialSpec")
		if n := len(*w.GMSACredentialSpec); n == 0 {
			c.invalid(at, w.GMSACredentialSpec, "gmsaCredentialSpec cannot be an empty string")
		} else if n > longestSpec {
			c.invalid(at, w.GMSACredentialSpec, "gmsaCredentialSpec size must be under 64 KiB")
		}
	}
	if w.RunAsUserName != nil {
		c.windowsUser(*w.RunAsUserName, p.Child("runAsUserName"))
	}
}

func (c *checks) windowsUser(name string, p *field.Path) {
	const longestDomain, longestUser = 256, 104
	bad := func(detail string) { c.invalid(p, name, "runAsUserName"+detail) }
	parts := strings.Split(name, `\`)
	switch {
	case name == "":
		bad(" cannot be an empty string")
		return
	case controlChars.MatchString(name):
		bad(" cannot contain control characters")
		return
	case len(parts) > 2:
		bad(" cannot contain more than one backslash")
		return
	}
	user := parts[len(parts)-1]
	if len(parts) == 2 {
		if len(parts[0]) >= longestDomain {
			bad("'s Domain length must be under 256 characters")
		}
		if !netBIOSDomain.MatchString(parts[0]) && !windowsDomain.MatchString(parts[0]) {
			bad("'s Domain doesn't match the NetBios nor the DNS format")
		}
	}
	if user == "" {
		bad("'s User cannot be empty")
	} else if len(user) > longestUser {
		bad("'s User length must not be longer than 104 characters")
	}
	if dotsAndSpaces.MatchString(user) {
		bad("'s User cannot contain only periods or spaces")
	}
	if badUserChars.MatchString(user) {
		bad(`'s User cannot contain the following characters: "/\:;|=,+*?<>@[]`)
	}
}

// hostProcess wants either all or none of a pod's containers to be Windows host
// processes, and those on the host's network.
func (c *checks) hostProcess(s *corev1.PodSpec, p *field.Path) {
	var whole *bool
	if s.SecurityContext != nil && s.SecurityContext.WindowsOptions != nil {
		whole = s.SecurityContext.WindowsOptions.HostProcess
	}
	all, host := 0, 0
	eachContainer(s, p, func(x *corev1.Container, at *field.Path) {
		all++
		var own *bool
		if x.SecurityContext != nil && x.SecurityContext.WindowsOptions != nil {
			own = x.SecurityContext.WindowsOptions.HostProcess
		}
		if whole != nil && own != nil && *whole != *own {
			c.invalid(at.Child("securityContext", "windowsOptions", "hostProcess"), *own, fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *whole))
		}
		if own != nil && *own || own == nil && whole != nil && *whole {
			host++
		}
	})
	if host == 0 {
		return
	}
	if host != all {
		c.invalid(p, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers")
	}
	if !s.HostNetwork {
		c.invalid(p.Child("hostNetwork"), s.HostNetwork, "hostNetwork must be true if pod contains any hostProcess containers")
	}
}

// userNamespace forbids what does not go with a user namespace of the pod's own.
func (v *podScope) userNamespace(p *field.Path) {
	const when = "when `hostUsers` is false"
	if v.hostUsers {
		return
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"hostNetwork", v.spec.HostNetwork}, {"HostPID", v.spec.HostPID}, {"HostIPC", v.spec.HostIPC}} {
		if f.set {
			v.forbidden(p.Child(f.name), when)
		}
	}
	eachContainer(v.spec, p, func(x *corev1.Container, at *field.Path) {
		if len(x.VolumeDevices) > 0 {
			v.forbidden(at.Child("volumeDevices"), when)
		}
	})
}

func (c *checks) linuxPod(s *corev1.PodSpec, p *field.Path) {
	const detail = "windows options cannot be set for a linux pod"
	if s.SecurityContext != nil && s.SecurityContext.WindowsOptions != nil {
		c.forbidden(p.Child("securityContext", "windowsOptions"), detail)
	}
	eachContainer(s, p, func(x *corev1.Container, at *field.Path) {
		if x.SecurityContext != nil && x.SecurityContext.WindowsOptions != nil {
			c.forbidden(at.Child("securityContext", "windowsOptions"), detail)
		}
	})
}

// windowsPod forbids what only Linux knows.
func (c *checks) windowsPod(s *corev1.PodSpec, p *field.Path) {
	type linuxOnly struct {
		name string
		set  bool
	}
	forbid := func(p *field.Path, list []linuxOnly) {
		for _, f := range list {
			if f.set {
				c.forbidden(p.Child(f.name), "cannot be set for a windows pod")
			}
		}
	}
	if x := s.SecurityContext; x != nil {
		forbid(p.Child("securityContext"), []linuxOnly{
			{"appArmorProfile", x.AppArmorProfile != nil},
			{"seLinuxOptions", x.SELinuxOptions != nil},
			{"seccompProfile", x.SeccompProfile != nil},
			{"fsGroup", x.FSGroup != nil},
			{"fsGroupChangePolicy", x.FSGroupChangePolicy != nil},
			{"sysctls", len(x.Sysctls) > 0},
			{"runAsUser", x.RunAsUser != nil},
			{"runAsGroup", x.RunAsGroup != nil},
			{"supplementalGroups", x.SupplementalGroups != nil},
			{"supplementalGroupsPolicy", x.SupplementalGroupsPolicy != nil},
			{"seLinuxChangePolicy", x.SELinuxChangePolicy != nil},
		})
	}
	forbid(p, []linuxOnly{
		{"hostUsers", s.HostUsers != nil}, {"hostPID", s.HostPID}, {"hostIPC", s.HostIPC}, {"shareProcessNamespace", s.ShareProcessNamespace != nil},
	})
	eachContainer(s, p, func(x *corev1.Container, at *field.Path) {
		if x := x.SecurityContext; x != nil {
			forbid(at.Child("securityContext"), []linuxOnly{
				{"appArmorProfile", x.AppArmorProfile != nil},
				{"seLinuxOptions", x.SELinuxOptions != nil},
				{"seccompProfile", x.SeccompProfile != nil},
				{"capabilities", x.Capabilities != nil},
				{"readOnlyRootFilesystem", x.ReadOnlyRootFilesystem != nil},
				{"privileged", x.Privileged != nil},
				{"allowPrivilegeEscalation", x.AllowPrivilegeEscalation != nil},
				{"procMount", x.ProcMount != nil},
				{"runAsUser", x.RunAsUser != nil},
				{"runAsGroup", x.RunAsGroup != nil},
			})
		}
	})
}
