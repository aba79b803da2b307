package resource

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What environment variables and files may refer to.
var (
	envFields      = sets.New("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs")
	fileFields     = sets.New("metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid")
	resourceFields = sets.New("limits.cpu", "limits.memory", "limits.ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage")
	// knownFields are the labels that can be converted to a field at all.
	knownFields = envFields.Union(fileFields).Union(sets.New("spec.restartPolicy", "spec.schedulerName", "status.phase"))
	byteUnits   = sets.New("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
)

func (v *podScope) env(vars []corev1.EnvVar, p *field.Path) {
	for i := range vars {
		at := p.Index(i)
		if vars[i].Name == "" {
			v.required(at.Child("name"), "")
		} else {
			v.invalid(at.Child("name"), vars[i].Name, validation.IsRelaxedEnvVarName(vars[i].Name)...)
		}
		if vars[i].ValueFrom != nil {
			v.valueFrom(&vars[i], at.Child("valueFrom"))
		}
	}
}

func (v *podScope) valueFrom(e *corev1.EnvVar, p *field.Path) {
	from, n := e.ValueFrom, 0
	if from.FieldRef != nil {
		n++
		v.fieldRef(from.FieldRef, envFields, p.Child("fieldRef"))
	}
	if from.ResourceFieldRef != nil {
		n++
		v.resourceRef(from.ResourceFieldRef, p.Child("resourceFieldRef"), false)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		n++
		v.keyRef(r.Name, r.Key, p.Child("configMapKeyRef"))
	}
	if r := from.SecretKeyRef; r != nil {
		n++
		v.keyRef(r.Name, r.Key, p.Child("secretKeyRef"))
	}
	if r := from.FileKeyRef; r != nil {
		n++
		at := p.Child("fileKeyRef")
		v.requiredOr(at.Child("key"), r.Key, func(p *field.Path, s string) { v.invalid(p, s, validation.IsRelaxedEnvVarName(s)...) })
		v.requiredOr(at.Child("volumeName"), r.VolumeName, v.label)
		v.requiredOr(at.Child("path"), r.Path, v.noBacksteps)
	}
	switch {
	case n == 0:
		v.invalid(p, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`")
	case e.Value != "":
		v.invalid(p, "", "may not be specified when `value` is not empty")
	case n > 1:
		v.invalid(p, "", "may not have more than one field specified at a time")
	}
}

func (v *podScope) keyRef(name, key string, p *field.Path) {
	v.subdomain(p.Child("name"), name)
	v.requiredOr(p.Child("key"), key, func(p *field.Path, s string) { v.invalid(p, s, validation.IsConfigMapKey(s)...) })
}

func (v *podScope) fieldRef(f *corev1.ObjectFieldSelector, allowed sets.Set[string], p *field.Path) {
	if f.APIVersion == "" {
		v.required(p.Child("apiVersion"), "")
		return
	}
	if f.FieldPath == "" {
		v.required(p.Child("fieldPath"), "")
		return
	}
	at := p.Child("fieldPath")
	if f.APIVersion != "v1" {
		v.invalid(at, f.FieldPath, fmt.Sprintf("error converting fieldPath: unsupported pod version: %s", f.APIVersion))
		return
	}
	path, subscript, subscripted := strings.Cut(f.FieldPath, "['")
	if subscripted && strings.HasSuffix(subscript, "']") {
		key := strings.TrimSuffix(subscript, "']")
		switch path {
		case "metadata.annotations":
			v.qualified(p, strings.ToLower(key))
		case "metadata.labels":
			v.qualified(p, key)
		default:
			v.invalid(at, f.FieldPath, fmt.Sprintf("error converting fieldPath: field label does not support subscript: %s", f.FieldPath))
		}
		return
	}
	path = f.FieldPath
	if path == "spec.host" {
		path = "spec.nodeName"
	}
	if !knownFields.Has(path) {
		v.invalid(at, f.FieldPath, fmt.Sprintf("error converting fieldPath: field label not supported: %s", f.FieldPath))
		return
	}
	if !allowed.Has(path) {
		v.list = append(v.list, field.NotSupported(at, path, sets.List(allowed)))
	}
}

func (v *podScope) resourceRef(r *corev1.ResourceFieldSelector, p *field.Path, inVolume bool) {
	huge := strings.HasPrefix(r.Resource, "limits.hugepages-") || strings.HasPrefix(r.Resource, "requests.hugepages-")
	switch {
	case inVolume && r.ContainerName == "":
		v.required(p.Child("containerName"), "")
	case r.Resource == "":
		v.required(p.Child("resource"), "")
	case !resourceFields.Has(r.Resource) && !huge:
		v.list = append(v.list, field.NotSupported(p.Child("resource"), r.Resource, sets.List(resourceFields)))
	}
	if r.Divisor.IsZero() {
		return
	}
	const bytes = "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the %s resource"
	unit, at := r.Divisor.String(), p.Child("divisor")
	what := ""
	switch _, kind, _ := strings.Cut(r.Resource, "."); {
	case kind == "cpu" && resourceFields.Has(r.Resource):
		if unit != "1m" && unit != "1" {
			v.invalid(at, r.Resource, "only divisor's values 1m and 1 are supported with the cpu resource")
		}
	case kind == "memory" && resourceFields.Has(r.Resource):
		what = "memory"
	case kind == "ephemeral-storage" && resourceFields.Has(r.Resource):
		what = "local ephemeral storage"
	case huge:
		what = "hugepages"
	}
	if what != "" && !byteUnits.Has(unit) {
		v.invalid(at, r.Resource, fmt.Sprintf(bytes, what))
	}
}

func (v *podScope) envFrom(list []corev1.EnvFromSource, p *field.Path) {
	for i := range list {
		e, at, n := &list[i], p.Index(i), 0
		if e.Prefix != "" {
			v.invalid(at.Child("prefix"), e.Prefix, validation.IsRelaxedEnvVarName(e.Prefix)...)
		}
		// A name that ends in "-" is a prefix, which upstream lets pass here.
		prefix := func(p *field.Path, s string) {
			v.subdomain(p, strings.TrimSuffix(s, "-")+strings.Repeat("a", len(s)-len(strings.TrimSuffix(s, "-"))))
		}
		if e.ConfigMapRef != nil {
			n++
			v.requiredOr(at.Child("configMapRef", "name"), e.ConfigMapRef.Name, prefix)
		}
		if e.SecretRef != nil {
			n++
			v.requiredOr(at.Child("secretRef", "name"), e.SecretRef.Name, prefix)
		}
		switch {
		case n == 0:
			v.invalid(p, "", "must specify one of: `configMapRef` or `secretRef`")
		case n > 1:
			v.invalid(p, "", "may not have more than one field specified at a time")
		}
	}
}

// fileKeyVolumes wants variables from files to come from emptyDir volumes.
func (v *podScope) fileKeyVolumes(p *field.Path) {
	sources := map[string]*corev1.VolumeSource{}
	for i := range v.spec.Volumes {
		sources[v.spec.Volumes[i].Name] = &v.spec.Volumes[i].VolumeSource
	}
	eachContainer(v.spec, p, func(x *corev1.Container, at *field.Path) {
		for i, e := range x.Env {
			if e.ValueFrom == nil || e.ValueFrom.FileKeyRef == nil {
				continue
			}
			name := e.ValueFrom.FileKeyRef.VolumeName
			at := at.Child("env").Index(i).Child("valueFrom", "fileKeyRef", "volumeName")
			if source := sources[name]; source == nil {
				v.notFound(at, name)
			} else if source.EmptyDir == nil {
				v.invalid(at, name, "referenced volume must be of type emptyDir")
			}
		}
	})
}
