package rest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestNegotiate(t *testing.T) {
	const table = "application/json;as=Table;v=v1;g=meta.k8s.io"
	for name, c := range map[string]struct {
		accept string
		object bool // the answer has no table
		want   form
		none   bool
	}{
		"nothing asked":            {"", false, form{media: mediaJSON}, false},
		"table":                    {table, false, form{media: mediaJSON, as: "Table"}, false},
		"table or object":          {table + ",application/json", false, form{media: mediaJSON, as: "Table"}, false},
		"no table, only table":     {table, true, form{}, true},
		"no table, but the object": {table + ", application/vnd.kubernetes.protobuf", true, form{media: mediaProtobuf}, false},
		"better by quality":        {"application/yaml;q=0.1, application/json;q=0.9", false, form{media: mediaJSON}, false},
		"unknown":                  {"text/html", false, form{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			if c.accept != "" {
				r.Header.Set("Accept", c.accept)
			}
			pick := negotiate
			if c.object {
				pick = negotiateObject
			}
			got, err := pick(r)
			if c.none {
				if apierrors.ReasonForError(err) != "NotAcceptable" {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(form{})); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}
