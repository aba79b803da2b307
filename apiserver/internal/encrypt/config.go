package encrypt

import (
	"context"
	"encoding/base64"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
)

// provider is one key of one provider, or a key management service: values that begin with the prefix are its own.
type provider struct {
	prefix string
	box    box
	kms    *kms // in place of the box
}

func (p *provider) seal(key string, plain []byte) ([]byte, error) {
	if p.kms != nil {
		return p.kms.seal(key, plain)
	}
	return p.box.seal(key, plain)
}

func (p *provider) open(ctx context.Context, key string, sealed []byte) (plain []byte, stale bool, err error) {
	if p.kms != nil {
		return p.kms.openStored(ctx, key, sealed)
	}
	plain, err = p.box.open(key, sealed)
	return plain, false, err
}

// rules are the providers of resources, the first of which writes. "*" stands for any resource, or any group.
type rules map[schema.GroupResource][]provider

// encrypted begins every encrypted value.
var encrypted = []byte("k8s:enc:")

var anything = schema.GroupResource{Group: "*", Resource: "*"}

// of are the providers of a resource, and whether a rule names it; one that none names is stored as it is.
func (r rules) of(gr schema.GroupResource) ([]provider, bool) {
	for _, key := range []schema.GroupResource{gr, {Group: gr.Group, Resource: "*"}, anything} {
		if p := r[key]; p != nil {
			return p, true
		}
	}
	return unencrypted, false
}

var unencrypted = []provider{{box: plainBox{}}}

// parse reads and validates a configuration of apiserver.config.k8s.io/v1.
func (t *Transformer) parse(data []byte, reload bool) (*current, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{apiserver.AddToScheme, apiserverv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder()
	obj, gvk, err := decoder.Decode(data, nil, nil)
	if err != nil {
		return nil, err
	}
	config, ok := obj.(*apiserver.EncryptionConfiguration)
	if !ok {
		return nil, fmt.Errorf("it is a %s and not an EncryptionConfiguration", gvk)
	}
	if err := validation.ValidateEncryptionConfiguration(config, reload).ToAggregate(); err != nil {
		return nil, err
	}
	out := &current{rules: rules{}}
	if err := t.compile(config, out); err != nil {
		out.close()
		return nil, err
	}
	return out, nil
}

func (t *Transformer) compile(config *apiserver.EncryptionConfiguration, to *current) error {
	out := to.rules
	for i, rc := range config.Resources {
		providers, err := t.providersOf(rc.Providers, to)
		if err != nil {
			return fmt.Errorf("resources[%d].%w", i, err)
		}
		for _, name := range rc.Resources {
			gr := schema.ParseGroupResource(name)
			for _, earlier := range []schema.GroupResource{{Group: gr.Group, Resource: "*"}, anything} {
				if _, masked := out[earlier]; masked {
					return fmt.Errorf("resource %q is masked by earlier rule %q", text(gr), text(earlier))
				}
			}
			out[gr] = append(out[gr], providers...)
		}
	}
	return nil
}

func text(gr schema.GroupResource) string {
	if gr.Group == "" && gr.Resource == "*" {
		return "*."
	}
	return gr.String()
}

func (t *Transformer) providersOf(list []apiserver.ProviderConfiguration, to *current) ([]provider, error) {
	var out []provider
	for i, p := range list {
		var err error
		switch {
		case p.Identity != nil:
			out = append(out, unencrypted...)
		case p.AESGCM != nil:
			out, err = appendKeys(out, "aesgcm", p.AESGCM.Keys, newGCM)
		case p.AESCBC != nil:
			out, err = appendKeys(out, "aescbc", p.AESCBC.Keys, newCBC)
		case p.Secretbox != nil:
			out, err = appendKeys(out, "secretbox", p.Secretbox.Keys, newSecretBox)
		case p.KMS != nil:
			var k *kms
			if k, err = newKMS(p.KMS, t.cfg.Metrics, t.log); err == nil {
				k.recovered = t.cfg.Recovered
				to.services = append(to.services, k)
				out = append(out, provider{prefix: k.prefix(), kms: k})
			}
		}
		if err != nil {
			return nil, fmt.Errorf("providers[%d].%w", i, err)
		}
	}
	return out, nil
}

func appendKeys(out []provider, name string, keys []apiserver.Key, newBox func(secret []byte) (box, error)) ([]provider, error) {
	for i, k := range keys {
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		if err != nil {
			return nil, fmt.Errorf("%s.keys[%d]: %w", name, i, err)
		}
		b, err := newBox(secret)
		if err != nil {
			return nil, fmt.Errorf("%s.keys[%d]: %w", name, i, err)
		}
		out = append(out, provider{prefix: string(encrypted) + name + ":v1:" + k.Name + ":", box: b})
	}
	return out, nil
}
