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

func podCertificates(c *cluster) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	stub, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		c.t.Fatal(err)
	}
	const path = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests"
	quoted, err := json.Marshal(stub)
	if err != nil {
		c.t.Fatal(err)
	}
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
	_, table := c.call("GET", path, "admin", "", "application/json;as=Table;v=v1;g=meta.k8s.io", "")
	if !strings.Contains(string(table), `"cells":["r","p","sa","n","example.com/s","Issued","\u003cnone\u003e"]`) && !strings.Contains(string(table), `"cells":["r","p","sa","n","example.com/s","Issued","<none>"]`) {
		c.t.Errorf("table: %s", table)
	}
}
