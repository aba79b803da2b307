package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

const podRequests = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests"

// podKey is a key and the request that proves its possession, as JSON.
func podKey(c *cluster) (key *ecdsa.PrivateKey, quoted []byte) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	stub, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		c.t.Fatal(err)
	}
	if quoted, err = json.Marshal(stub); err != nil {
		c.t.Fatal(err)
	}
	return key, quoted
}

// podCertificatesOfNode asks as a kubelet does, through the node authorizer and the restriction of nodes.
func podCertificatesOfNode(c *cluster) {
	_, quoted := podKey(c)
	node := c.json("POST", "/api/v1/nodes", jsonType, `{"metadata":{"name":"n1"}}`, 201)
	account := c.json("POST", "/api/v1/namespaces/default/serviceaccounts", jsonType, `{"metadata":{"name":"sa"}}`, 201)
	pod := map[string]any{}
	c.until("admission sees the account", func() bool {
		code, data := c.call("POST", "/api/v1/namespaces/default/pods", "admin", jsonType, jsonType, `{"metadata":{"name":"certified"},"spec":{"nodeName":"n1","serviceAccountName":"sa","containers":[{"name":"c","image":"i"}],
"volumes":[{"name":"v","projected":{"sources":[{"podCertificate":{"signerName":"example.com/s","keyType":"ECDSAP256","credentialBundlePath":"b"}}]}}]}}`)
		return code == 201 && json.Unmarshal(data, &pod) == nil
	})
	ask := func(node any) (int, []byte) {
		return c.call("POST", podRequests, "n1", jsonType, jsonType, fmt.Sprintf(`{"metadata":{"generateName":"req-"},"spec":{"signerName":"example.com/s","podName":"certified","podUID":%q,
"serviceAccountName":"sa","serviceAccountUID":%q,"nodeName":"n1","nodeUID":%q,"stubPKCS10Request":%s}}`, at(pod, "metadata", "uid"), at(account, "metadata", "uid"), node, quoted))
	}
	c.until("the node reads the pod's account", func() bool {
		code, _ := c.call("GET", "/api/v1/namespaces/default/serviceaccounts/sa", "n1", "", jsonType, "")
		return code == 200
	})
	if code, data := ask("another"); code != 500 || !strings.Contains(string(data), "inconsistent with the running node") {
		c.t.Errorf("the node's UID is another: %d %s", code, data)
	}
	code, data := ask(at(node, "metadata", "uid"))
	made := map[string]any{}
	if err := json.Unmarshal(data, &made); err != nil || code != 201 {
		c.t.Fatalf("the node asks: %d %s", code, data)
	}
	for query, want := range map[string]int{"": 403, "?fieldSelector=spec.nodeName%3Dn2": 403, "?fieldSelector=spec.nodeName%3Dn1": 200} {
		if code, data := c.call("GET", "/apis/certificates.k8s.io/v1/podcertificaterequests"+query, "n1", "", jsonType, ""); code != want {
			c.t.Errorf("list %q: %d %s", query, code, data)
		}
	}
	c.until("the node gets what it asked for", func() bool {
		code, _ := c.call("GET", podRequests+"/"+fmt.Sprint(at(made, "metadata", "name")), "n1", "", jsonType, "")
		return code == 200
	})
	if code, data := c.call("PATCH", podRequests+"/"+fmt.Sprint(at(made, "metadata", "name"))+"/status", "n1", "application/merge-patch+json", jsonType, `{"status":{}}`); code != 403 {
		c.t.Errorf("the node writes a status: %d %s", code, data)
	}
}

func podCertificates(c *cluster) {
	const path = podRequests
	key, quoted := podKey(c)
	ask := func(name string, code int, stub string) map[string]any {
		return c.json("POST", path, jsonType, `{"metadata":{"name":"`+name+`"},"spec":{"signerName":"example.com/s","podName":"p","podUID":"pu",
"serviceAccountName":"sa","serviceAccountUID":"su","nodeName":"n","nodeUID":"nu","stubPKCS10Request":`+stub+`},"status":{"certificateChain":"x"}}`, code)
	}
	made := ask("r", 201, string(quoted))
	c.want(made, 86400, "spec", "maxExpirationSeconds")
	c.want(made, nil, "status", "certificateChain")
	if m := fmt.Sprint(at(ask("bad", 422, `"eA=="`), "message")); !strings.Contains(m, "spec.stubPKCS10Request") {
		c.t.Errorf("message %q", m)
	}
	if n := len(at(c.json("GET", path+"?fieldSelector=spec.nodeName%3Dn", "", "", 200), "items").([]any)); n != 1 {
		c.t.Errorf("%d requests of the node, want 1", n)
	}
	moved := c.json("PATCH", path+"/r", "application/merge-patch+json", `{"spec":{"podName":"q"}}`, 422)
	c.want(moved, "Invalid", "reason")

	begin := time.Now().Truncate(time.Second)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: begin, NotAfter: begin.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		c.t.Fatal(err)
	}
	stamp := func(d time.Duration) string { return begin.Add(d).UTC().Format(time.RFC3339) }
	status := func(kind string) string {
		fields := map[string]any{"conditions": []map[string]any{{"type": kind, "status": "True", "reason": "Test", "message": "", "lastTransitionTime": stamp(0)}}}
		if kind == "Issued" {
			fields["certificateChain"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
			fields["notBefore"], fields["notAfter"], fields["beginRefreshAt"] = stamp(0), stamp(time.Hour), stamp(30*time.Minute)
		}
		data, err := json.Marshal(map[string]any{"status": fields})
		if err != nil {
			c.t.Fatal(err)
		}
		return string(data)
	}
	rule := func(name, rules string) {
		c.json("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", jsonType, `{"metadata":{"name":"`+name+`"},"rules":[{"apiGroups":["certificates.k8s.io"],`+rules+`}]}`, 201)
		c.json("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", jsonType, `{"metadata":{"name":"`+name+`"},"subjects":[{"kind":"User","name":"jane"}],"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"`+name+`"}}`, 201)
	}
	patch := func(kind string) (int, string) {
		code, data := c.call("PATCH", path+"/r/status", "jane", "application/merge-patch+json", jsonType, status(kind))
		return code, string(data)
	}
	rule("pcr-writer", `"resources":["podcertificaterequests/status"],"verbs":["patch"]`)
	c.until("who may write statuses may not sign", func() bool {
		code, data := patch("Issued")
		return code == 422 && strings.Contains(data, `spec.signerName: Forbidden: User \"jane\" is not permitted to \"sign\" for signer \"example.com/s\"`)
	})
	rule("pcr-signer", `"resources":["signers"],"resourceNames":["example.com/*"],"verbs":["sign"]`)
	c.until("the signer issues", func() bool {
		code, _ := patch("Issued")
		return code == 200
	})
	if code, data := patch("Denied"); code != 422 || !strings.Contains(data, "immutable after PodCertificateRequest is issued, denied, or failed") {
		c.t.Errorf("an issued request is denied: %d %s", code, data)
	}
	for i, form := range []string{"application/strategic-merge-patch+json", "application/apply-patch+yaml", "application/merge-patch+json", "application/json-patch+json", ""} {
		name := fmt.Sprintf("by-%d", i)
		asked := ask(name, 201, string(quoted))
		var fields map[string]map[string]any
		if err := json.Unmarshal([]byte(status("Issued")), &fields); err != nil {
			c.t.Fatal(err)
		}
		var body any = fields
		method, query := "PATCH", "?fieldValidation=Strict"
		switch form {
		case "application/apply-patch+yaml":
			query += "&fieldManager=test&force=true"
			body = map[string]any{"apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest", "metadata": map[string]any{"name": name}, "status": fields["status"]}
		case "application/json-patch+json":
			var ops []map[string]any
			for field, v := range fields["status"] {
				ops = append(ops, map[string]any{"op": "add", "path": "/status/" + field, "value": v})
			}
			body = ops
		case "":
			method, form = "PUT", jsonType
			asked["status"] = fields["status"]
			body = asked
		}
		data, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		c.want(c.json(method, path+"/"+name+"/status"+query, form, string(data), 200), stamp(time.Hour), "status", "notAfter")
	}
	_, table := c.call("GET", path, "admin", "", "application/json;as=Table;v=v1;g=meta.k8s.io", "")
	if !strings.Contains(string(table), `"cells":["r","p","sa","n","example.com/s","Issued","\u003cnone\u003e"]`) && !strings.Contains(string(table), `"cells":["r","p","sa","n","example.com/s","Issued","<none>"]`) {
		c.t.Errorf("table: %s", table)
	}
}
