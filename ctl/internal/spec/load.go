package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

// Documents are those of one configuration file. Kubelet and Proxy are kept as they were written, so that only what
// the user set is stored; both are nil where the file has none.
type Documents struct {
	Init    InitConfiguration
	Cluster ClusterConfiguration
	Join    JoinConfiguration
	Kubelet map[string]any
	Proxy   map[string]any
}

// Load reads a file of documents. An unknown kind or key is an error of one line.
func Load(path string) (*Documents, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	d := &Documents{}
	r := utilyaml.NewYAMLReader(newReader(data))
	for n := 1; ; n++ {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read configuration %s: %w", path, err)
		}
		if len(bytes.TrimSpace(stripComments(doc))) == 0 {
			continue
		}
		if err := d.add(doc); err != nil {
			return nil, fmt.Errorf("read configuration %s: document %d: %s", path, n, oneLine(err))
		}
	}
}

func (d *Documents) add(doc []byte) error {
	var meta struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := yaml.Unmarshal(doc, &meta); err != nil {
		return err
	}
	switch meta.APIVersion + " " + meta.Kind {
	case APIVersion + " InitConfiguration":
		return yaml.UnmarshalStrict(doc, &d.Init)
	case APIVersion + " ClusterConfiguration":
		return yaml.UnmarshalStrict(doc, &d.Cluster)
	case APIVersion + " JoinConfiguration":
		return yaml.UnmarshalStrict(doc, &d.Join)
	case kubeletconfig.SchemeGroupVersion.String() + " KubeletConfiguration":
		return keep(doc, &kubeletconfig.KubeletConfiguration{}, &d.Kubelet)
	case proxyconfig.SchemeGroupVersion.String() + " KubeProxyConfiguration":
		return keep(doc, &proxyconfig.KubeProxyConfiguration{}, &d.Proxy)
	}
	return fmt.Errorf("kind %q of %q is not known here: InitConfiguration, ClusterConfiguration and JoinConfiguration of %s, KubeletConfiguration of %s, KubeProxyConfiguration of %s are",
		meta.Kind, meta.APIVersion, APIVersion, kubeletconfig.SchemeGroupVersion, proxyconfig.SchemeGroupVersion)
}

// keep checks a document against its type and keeps it as it is.
func keep(doc []byte, typed any, into *map[string]any) error {
	if err := yaml.UnmarshalStrict(doc, typed); err != nil {
		return err
	}
	return yaml.Unmarshal(doc, into)
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: ")), " ")
}

func stripComments(doc []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(doc) {
		if t := bytes.TrimSpace(line); len(t) > 0 && t[0] != '#' && !bytes.Equal(t, []byte("---")) {
			out.Write(line)
		}
	}
	return out.Bytes()
}
