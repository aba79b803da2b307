package app_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
)

// What goes through a subresource is admitted as what it is, and not as the object that it is about.
func TestAdmissionOfSubresources(t *testing.T) {
	c := startCluster(t)
	seen := make(chan string, 100)
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		review := &admissionv1.AdmissionReview{}
		if err := json.NewDecoder(r.Body).Decode(review); err != nil {
			t.Error(err)
		}
		q := review.Request
		var object, options struct{ Kind string }
		_ = json.Unmarshal(q.Object.Raw, &object)
		_ = json.Unmarshal(q.Options.Raw, &options)
		resp := &admissionv1.AdmissionResponse{UID: q.UID, Allowed: true, Warnings: []string{"seen"}}
		if r.URL.Path == "/change" {
			if q.Kind.Kind == "Scale" {
				patch := admissionv1.PatchTypeJSONPatch
				resp.Patch, resp.PatchType = []byte(`[{"op":"replace","path":"/spec/replicas","value":4}]`), &patch
			}
		} else {
			seen <- fmt.Sprintf("%s %s %s/%s %q %s %s", q.Operation, q.Kind.Kind, q.Resource.Resource, q.SubResource, q.Name, object.Kind, options.Kind)
		}
		review.Response, review.Request = resp, nil
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(hook.Close)
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw}))
	webhook := func(path string) string {
		return fmt.Sprintf(`{"name":"a.example.com","clientConfig":{"url":"%s%s","caBundle":%q},"rules":[{"operations":["*"],"apiGroups":["","apps"],"apiVersions":["*"],"resources":["pods/*","bindings","secrets","serviceaccounts/*","deployments/scale"]}],
"sideEffects":"None","admissionReviewVersions":["v1"],"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"default"}}}`, hook.URL, path, ca)
	}
	const namespace, merge = "/api/v1/namespaces/default", "application/merge-patch+json"
	c.json("POST", namespace+"/serviceaccounts", jsonType, `{"metadata":{"name":"a"}}`, 201)
	c.json("POST", "/api/v1/nodes", jsonType, `{"metadata":{"name":"n","labels":{"topology.kubernetes.io/zone":"z"}}}`, 201)
	for _, pod := range []string{"p", "q"} {
		c.json("POST", namespace+"/pods", jsonType, `{"metadata":{"name":"`+pod+`"},"spec":{"serviceAccountName":"a","automountServiceAccountToken":false,"containers":[{"name":"c","image":"i"}]}}`, 201)
	}
	c.json("POST", "/apis/apps/v1/namespaces/default/deployments", jsonType,
		`{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`, 201)
	c.configure(mutatingHooks, "MutatingWebhookConfiguration", "change", webhook("/change"))
	c.configure(validatingHooks, "ValidatingWebhookConfiguration", "see", webhook("/see"))
	c.until("the webhooks are called", func() bool {
		c.call("POST", namespace+"/secrets?dryRun=All", "admin", jsonType, jsonType, `{"metadata":{"name":"s"}}`)
		return len(seen) > 0
	})
	for len(seen) > 0 {
		<-seen
	}
	for _, x := range []struct {
		name, method, path, media, body string
		code                            int
		want                            string
	}{
		{"a scale", "PUT", "/apis/apps/v1/namespaces/default/deployments/d/scale", jsonType, `{"metadata":{"name":"d","namespace":"default"},"spec":{"replicas":2}}`, 200, `UPDATE Scale deployments/scale "d" Scale UpdateOptions`},
		{"a patch of one", "PATCH", "/apis/apps/v1/namespaces/default/deployments/d/scale", merge, `{"spec":{"replicas":3}}`, 200, `UPDATE Scale deployments/scale "d" Scale UpdateOptions`},
		{"a binding", "POST", namespace + "/pods/p/binding", jsonType, `{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}`, 201, `CREATE Binding pods/binding "p" Binding CreateOptions`},
		{"one of old", "POST", namespace + "/bindings", jsonType, `{"metadata":{"name":"q"},"target":{"name":"n"}}`, 201, `CREATE Binding bindings/ "q" Binding CreateOptions`},
		{"an eviction", "POST", namespace + "/pods/q/eviction", jsonType, `{"metadata":{"name":"q"}}`, 201, `CREATE Eviction pods/eviction "q" Eviction CreateOptions`},
		{"a token", "POST", namespace + "/serviceaccounts/a/token", jsonType, `{}`, 201, `CREATE TokenRequest serviceaccounts/token "a" TokenRequest CreateOptions`},
		{"a status", "PATCH", namespace + "/pods/p/status", merge, `{"status":{"phase":"Running"}}`, 200, `UPDATE Pod pods/status "p" Pod UpdateOptions`},
		{"a scale of another's name", "PUT", "/apis/apps/v1/namespaces/default/deployments/d/scale", jsonType, `{"metadata":{"name":"e"},"spec":{"replicas":2}}`, 400, ""},
		{"a scale of another's UID", "PUT", "/apis/apps/v1/namespaces/default/deployments/d/scale", jsonType, `{"metadata":{"name":"d","uid":"x"},"spec":{"replicas":2}}`, 409, ""},
		{"a scale that is none", "PATCH", "/apis/apps/v1/namespaces/default/deployments/d/scale", merge, `{"spec":{"replicas":"x"}}`, 422, ""},
		{"one of another's name", "POST", namespace + "/pods/p/eviction", jsonType, `{"metadata":{"name":"q"}}`, 400, ""},
		{"a token that is too short", "POST", namespace + "/serviceaccounts/a/token", jsonType, `{"spec":{"expirationSeconds":1}}`, 422, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := &cluster{t: t, base: c.base, client: c.client}
			c.json(x.method, x.path, x.media, x.body, x.code)
			got := ""
			for len(seen) > 0 {
				got += <-seen
			}
			if got != x.want {
				t.Errorf("got %s, want %s", got, x.want)
			}
		})
	}
	c.want(c.json("GET", "/apis/apps/v1/namespaces/default/deployments/d", "", "", 200), 4, "spec", "replicas")
	pod := c.json("GET", namespace+"/pods/p", "", "", 200)
	c.want(pod, "z", "metadata", "labels", "topology.kubernetes.io/zone")
	for _, entry := range at(pod, "metadata", "managedFields").([]any) {
		if at(entry, "subresource") == "binding" {
			t.Errorf("who binds owns fields: %v", entry)
		}
	}
}
