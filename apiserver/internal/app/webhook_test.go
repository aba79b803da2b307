package app_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	mutatingHooks   = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
	validatingHooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
)

// hookServer answers reviews by the path that they are sent to.
type hookServer struct {
	*httptest.Server
	ca    string
	calls atomic.Int32
}

func startHooks(t *testing.T) *hookServer {
	t.Helper()
	h := &hookServer{}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.Close)
	h.ca = base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}))
	return h
}

func (h *hookServer) serve(w http.ResponseWriter, r *http.Request) {
	h.calls.Add(1)
	if r.URL.Path == "/convert" {
		convert(w, r)
		return
	}
	review := &admissionv1.AdmissionReview{}
	if err := json.NewDecoder(r.Body).Decode(review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	obj := &unstructured.Unstructured{}
	_ = json.Unmarshal(review.Request.Object.Raw, &obj.Object)
	resp := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	patchType := admissionv1.PatchTypeJSONPatch
	switch {
	case r.URL.Path == "/stage1":
		resp.Patch, resp.PatchType = []byte(`[{"op":"add","path":"/data/stage1","value":"yes"}]`), &patchType
	case r.URL.Path == "/stage2":
		// It waits for what the other does.
		if obj.Object["data"].(map[string]any)["stage1"] == "yes" {
			resp.Patch, resp.PatchType = []byte(`[{"op":"add","path":"/data/stage2","value":"yes"}]`), &patchType
		}
	case r.URL.Path == "/deny" && obj.GetLabels()["bad"] == "yes":
		resp.Allowed = false
		resp.Result = &metav1.Status{Message: "this object is bad"}
	case r.URL.Path == "/warn":
		resp.Warnings = []string{"think twice"}
	case r.URL.Path == "/broken":
		http.Error(w, "no", http.StatusInternalServerError)
		return
	}
	review.Response, review.Request = resp, nil
	_ = json.NewEncoder(w).Encode(review)
}

// convert moves spec.host to spec.address, or back.
func convert(w http.ResponseWriter, r *http.Request) {
	review := map[string]any{}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request := review["request"].(map[string]any)
	var out []any
	for _, o := range request["objects"].([]any) {
		obj := o.(map[string]any)
		obj["apiVersion"] = request["desiredAPIVersion"]
		if spec, ok := obj["spec"].(map[string]any); ok {
			from, to := "host", "address"
			if strings.HasSuffix(fmt.Sprint(request["desiredAPIVersion"]), "/v1") {
				from, to = to, from
			}
			if v, ok := spec[from]; ok {
				spec[to] = v
				delete(spec, from)
			}
		}
		out = append(out, obj)
	}
	review["response"] = map[string]any{"uid": request["uid"], "convertedObjects": out, "result": map[string]any{"status": "Success"}}
	delete(review, "request")
	_ = json.NewEncoder(w).Encode(review)
}

// rule is a webhook about config maps in the default namespace.
func (h *hookServer) rule(name, path, more string) string {
	return fmt.Sprintf(`{"name":"%s.example.com","clientConfig":{"url":"%s%s","caBundle":%q},"rules":[{"operations":["CREATE","UPDATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["configmaps"]}],
"sideEffects":"None","admissionReviewVersions":["v1"],"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"default"}}%s}`, name, h.URL, path, h.ca, more)
}

func (c *cluster) configure(path, kind, name string, hooks ...string) {
	c.t.Helper()
	c.json("POST", path, jsonType, fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":%q,"metadata":{"name":%q},"webhooks":[%s]}`, kind, name, strings.Join(hooks, ",")), 201)
}

func TestWebhooks(t *testing.T) {
	c := startCluster(t)
	h := startHooks(t)
	for _, scenario := range []struct {
		name string
		run  func(*cluster, *hookServer)
	}{
		{"a mutating webhook changes objects, and one is called again", mutatingWebhooks},
		{"a validating webhook refuses and warns", validatingWebhooks},
		{"conditions and failures", webhookFailures},
		{"versions are converted", conversionWebhook},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			scenario.run(&cluster{t: t, base: c.base, client: c.client}, h)
		})
	}
}

func mutatingWebhooks(c *cluster, h *hookServer) {
	// The second stage comes first, and is called again after the first.
	c.configure(mutatingHooks, "MutatingWebhookConfiguration", "stages", h.rule("b", "/stage2", `,"reinvocationPolicy":"IfNeeded"`), h.rule("a", "/stage1", ""))
	c.until("both stages ran", func() bool {
		cm := c.json("POST", configMaps, jsonType, `{"metadata":{"generateName":"staged-"},"data":{"own":"1"}}`, 201)
		return at(cm, "data", "stage1") == "yes" && at(cm, "data", "stage2") == "yes"
	})
	c.json("DELETE", mutatingHooks+"/stages", "", "", 200)
	c.until("the webhooks are gone", func() bool {
		cm := c.json("POST", configMaps, jsonType, `{"metadata":{"generateName":"plain-"},"data":{"own":"1"}}`, 201)
		return at(cm, "data", "stage1") == nil
	})
}

func validatingWebhooks(c *cluster, h *hookServer) {
	c.configure(validatingHooks, "ValidatingWebhookConfiguration", "deny", h.rule("deny", "/deny", ""), h.rule("warn", "/warn", ""))
	bad := `{"metadata":{"name":"bad","labels":{"bad":"yes"}}}`
	c.until("it is refused", func() bool {
		code, data := c.call("POST", configMaps+"?dryRun=All", "admin", jsonType, jsonType, bad)
		return code == 400 && strings.Contains(string(data), `admission webhook \"deny.example.com\" denied the request: this object is bad`)
	})
	req, err := http.NewRequestWithContext(c.t.Context(), "POST", c.base+configMaps, strings.NewReader(`{"metadata":{"generateName":"warned-"}}`))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer admin")
	req.Header.Set("Content-Type", jsonType)
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if w := resp.Header.Get("Warning"); w != `299 - "think twice"` {
		c.t.Errorf("warning %q", w)
	}
	c.json("DELETE", validatingHooks+"/deny", "", "", 200)
}

func webhookFailures(c *cluster, h *hookServer) {
	c.configure(validatingHooks, "ValidatingWebhookConfiguration", "broken",
		h.rule("ignored", "/broken", `,"failurePolicy":"Ignore"`),
		h.rule("fails", "/broken", `,"matchConditions":[{"name":"picked","expression":"object.metadata.name.startsWith('picked')"}]`))
	c.until("a broken webhook fails the request", func() bool {
		code, data := c.call("POST", configMaps+"?dryRun=All", "admin", jsonType, jsonType, `{"metadata":{"name":"picked"}}`)
		return code == 500 && strings.Contains(string(data), `failed calling webhook \"fails.example.com\": failed to call webhook: an error on the server (\"no\")`)
	})
	c.json("POST", configMaps+"?dryRun=All", jsonType, `{"metadata":{"name":"other"}}`, 201)
	c.json("DELETE", validatingHooks+"/broken", "", "", 200)
}

func conversionWebhook(c *cluster, h *hookServer) {
	version := func(name, field string, storage bool) string {
		return fmt.Sprintf(`{"name":%q,"served":true,"storage":%t,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{%q:{"type":"string"}}}}}}}`, name, storage, field)
	}
	define(c, fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"hosts.example.com"},"spec":{"group":"example.com","scope":"Namespaced",
"names":{"plural":"hosts","singular":"host","kind":"Host","listKind":"HostList"},"versions":[%s,%s],
"conversion":{"strategy":"Webhook","webhook":{"conversionReviewVersions":["v1"],"clientConfig":{"url":"%s/convert","caBundle":%q}}}}}`,
		version("v1", "host", true), version("v2", "address", false), h.URL, h.ca), "hosts.example.com")
	v1, v2 := "/apis/example.com/v1/namespaces/default/hosts", "/apis/example.com/v2/namespaces/default/hosts"
	c.json("POST", v2, jsonType, `{"apiVersion":"example.com/v2","kind":"Host","metadata":{"name":"a"},"spec":{"address":"x"}}`, 201)
	c.want(c.json("GET", v1+"/a", "", "", 200), "x", "spec", "host")
	c.want(c.json("GET", v2+"/a", "", "", 200), "x", "spec", "address")
	c.want(c.json("PATCH", v2+"/a", mergeType, `{"spec":{"address":"y"}}`, 200), "y", "spec", "address")
	c.want(c.json("GET", v1+"/a", "", "", 200), "y", "spec", "host")
	l := c.json("GET", v2, "", "", 200)
	c.want(at(l, "items").([]any)[0], "y", "spec", "address")
}
