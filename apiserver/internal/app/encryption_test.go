package app_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestEncryption stores secrets and custom resources encrypted, and everything else as it is.
func TestEncryption(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "encryption.yaml")
	if err := os.WriteFile(path, []byte(`apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, widgets.example.com]
  providers:
  - secretbox: {keys: [{name: one, secret: YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=}]}
  - identity: {}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	etcd := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	first := startCluster(t, "--etcd-data-dir="+filepath.Join(dir, "etcd"), "--etcd-unsafe-no-fsync", "--etcd-listen-client-url="+etcd,
		fmt.Sprintf("--etcd-listen-peer-url=http://127.0.0.1:%d", freePort(t)))
	c := startCluster(t, "--etcd-servers="+etcd, "--encryption-provider-config="+path)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	stored := func(key string) []byte {
		t.Helper()
		resp, err := client.Get(t.Context(), key)
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatalf("%s: %v, %v", key, resp, err)
		}
		return resp.Kvs[0].Value
	}

	const secrets, sealed = "/api/v1/namespaces/default/secrets", "k8s:enc:secretbox:v1:one:"
	c.json("POST", secrets, "application/json", `{"metadata":{"name":"a"},"stringData":{"password":"open sesame"}}`, http.StatusCreated)
	c.json("POST", "/api/v1/namespaces/default/configmaps", "application/json", `{"metadata":{"name":"a"},"data":{"greeting":"hello"}}`, http.StatusCreated)
	if v := stored("/registry/secrets/default/a"); !bytes.HasPrefix(v, []byte(sealed)) || bytes.Contains(v, []byte("open sesame")) {
		t.Errorf("the secret is stored as %q", v)
	}
	if v := stored("/registry/configmaps/default/a"); !bytes.Contains(v, []byte("hello")) {
		t.Errorf("the config map is stored as %q", v)
	}
	for _, query := range []string{"/a", "/a?resourceVersion=0"} {
		if got := at(c.json("GET", secrets+query, "", "", http.StatusOK), "data", "password"); got != "b3BlbiBzZXNhbWU=" {
			t.Errorf("%s: the password is %v", query, got)
		}
	}

	// What was stored in the clear is encrypted by a write that changes nothing else; what is encrypted is not written again.
	first.json("POST", secrets, "application/json", `{"metadata":{"name":"b"},"stringData":{"password":"swordfish"}}`, http.StatusCreated)
	if v := stored("/registry/secrets/default/b"); !bytes.Contains(v, []byte("swordfish")) {
		t.Errorf("without encryption the secret is stored as %q", v)
	}
	touch := func() any {
		return at(c.json("PATCH", secrets+"/b", "application/merge-patch+json", `{}`, http.StatusOK), "metadata", "resourceVersion")
	}
	version := touch()
	if v := stored("/registry/secrets/default/b"); !bytes.HasPrefix(v, []byte(sealed)) {
		t.Errorf("after a patch without changes the secret is stored as %q", v)
	}
	if again := touch(); again != version {
		t.Errorf("a patch that changes nothing writes an encrypted secret: version %v, then %v", version, again)
	}

	// A value that cannot be read is an error of its own, not one of the others.
	if _, err := client.Put(t.Context(), "/registry/secrets/kube-system/lost", "k8s:enc:aescbc:v1:gone:xyz"); err != nil {
		t.Fatal(err)
	}
	const lost = "/api/v1/namespaces/kube-system/secrets/lost"
	c.want(c.json("GET", lost, "", "", http.StatusInternalServerError), "Internal error occurred: StorageError: corrupt object, Code: 7, Key: /secrets/kube-system/lost, ResourceVersion: 0, AdditionalErrorMsg: data from the storage is not transformable revision=0: no matching prefix found", "message")
	c.until("the cache has it", func() bool {
		code, data := c.call("GET", "/api/v1/secrets", "admin", "", "application/json", "")
		return code == http.StatusInternalServerError && bytes.Contains(data, []byte(`"reason":"StorageReadError"`)) && bytes.Contains(data, []byte(`"field":"/registry/secrets/kube-system/lost"`))
	})
	c.json("GET", secrets, "", "", http.StatusOK)

	// It alone may be deleted without being read, by who has the right.
	const unread = "?ignoreStoreReadErrorWithClusterBreakingPotential=true"
	c.json("DELETE", lost, "", "", http.StatusInternalServerError)
	c.json("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", "application/json", `{"metadata":{"name":"deleter"},"rules":[{"apiGroups":[""],"resources":["secrets"],"verbs":["delete"]}]}`, http.StatusCreated)
	c.json("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", "application/json", `{"metadata":{"name":"deleter"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"deleter"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"jane"}]}`, http.StatusCreated)
	c.until("jane may delete", func() bool {
		code, _ := c.call("DELETE", secrets+"/none", "jane", "", "application/json", "")
		return code == http.StatusNotFound
	})
	if code, data := c.call("DELETE", lost+unread, "jane", "", "application/json", ""); code != http.StatusForbidden || !bytes.Contains(data, []byte("unsafe-delete-ignore-read-errors")) {
		t.Errorf("without the right: %d %s", code, data)
	}
	c.json("DELETE", secrets+unread, "", "", http.StatusUnprocessableEntity)
	c.json("DELETE", lost+unread+"&gracePeriodSeconds=1", "", "", http.StatusUnprocessableEntity)
	c.json("DELETE", secrets+"/a"+unread, "", "", http.StatusConflict)
	c.json("DELETE", lost+unread+"&dryRun=All", "", "", http.StatusOK)
	c.json("GET", lost, "", "", http.StatusInternalServerError)
	c.want(c.json("DELETE", lost+unread, "", "", http.StatusOK), "Success", "status")
	c.json("GET", lost, "", "", http.StatusNotFound)
	c.until("the list is whole again", func() bool {
		code, _ := c.call("GET", "/api/v1/secrets", "admin", "", "application/json", "")
		return code == http.StatusOK
	})
	c.json("GET", secrets+"/a", "", "", http.StatusOK)
}
