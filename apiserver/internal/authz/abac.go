package authz

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"flagship/apiserver/internal/authn"
)

// ABAC allows what a line of a policy file allows (--authorization-mode=ABAC).
type ABAC []abacPolicy

// abacPolicy is a line's spec: https://kubernetes.io/docs/reference/access-authn-authz/abac/.
type abacPolicy struct {
	User            string `json:"user"`
	Group           string `json:"group"`
	Readonly        bool   `json:"readonly"`
	APIGroup        string `json:"apiGroup"`
	Resource        string `json:"resource"`
	Namespace       string `json:"namespace"`
	NonResourcePath string `json:"nonResourcePath"`
}

const abacVersion = "abac.authorization.kubernetes.io/v1beta1"

// LoadABAC reads a policy file: a JSON object in each line, and comments.
//
// Errors: it cannot be read; the line that is wrong.
func LoadABAC(path string) (ABAC, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := ABAC{}
	scanner := bufio.NewScanner(bytes.NewReader(data))
	for i := 1; scanner.Scan(); i++ {
		line := bytes.TrimSpace(scanner.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		p, err := parseABAC(line)
		if err != nil {
			return nil, fmt.Errorf("error reading policy file %s, line %d: %s: %w", path, i, line, err)
		}
		out = append(out, p)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("error reading policy file %s: %w", path, err)
	}
	return out, nil
}

func parseABAC(line []byte) (abacPolicy, error) {
	var p struct {
		APIVersion string     `json:"apiVersion"`
		Kind       string     `json:"kind"`
		Spec       abacPolicy `json:"spec"`
	}
	if err := json.Unmarshal(line, &p); err != nil {
		return abacPolicy{}, err
	}
	if p.APIVersion == "" && p.Kind == "" {
		return parseOldABAC(line)
	}
	if p.APIVersion != abacVersion || p.Kind != "Policy" {
		return abacPolicy{}, fmt.Errorf("it is a %s of %s, not a Policy of %s", p.Kind, p.APIVersion, abacVersion)
	}
	if p.Spec.User == "*" || p.Spec.Group == "*" {
		p.Spec.User, p.Spec.Group = "", authn.AllAuthenticated
	}
	return p.Spec, nil
}

// parseOldABAC reads a line without a version, where what is left out means everything.
func parseOldABAC(line []byte) (abacPolicy, error) {
	var p abacPolicy
	if err := json.Unmarshal(line, &p); err != nil {
		return p, err
	}
	p.APIGroup, p.NonResourcePath = "*", ""
	if p.User == "" && p.Group == "" || p.User == "*" || p.Group == "*" {
		p.User, p.Group = "", authn.AllAuthenticated
	}
	if p.Namespace == "" && p.Resource == "" {
		p.NonResourcePath = "*"
	}
	if p.Namespace == "" {
		p.Namespace = "*"
	}
	if p.Resource == "" {
		p.Resource = "*"
	}
	return p, nil
}

// of is whether a policy is about the user: one that names nobody is about nobody.
func (p *abacPolicy) of(u *authn.Identity) bool {
	if u == nil || p.User == "" && p.Group == "" {
		return false
	}
	return (p.User == "" || p.User == u.Name) && (p.Group == "" || u.InGroup(p.Group))
}

func (p *abacPolicy) allows(a *Attributes) bool {
	if !p.of(a.User) || p.Readonly && !slices.Contains(abacReading, a.Verb) {
		return false
	}
	if a.ResourceRequest {
		return starOr(p.Namespace, a.Namespace) && starOr(p.Resource, a.Resource) && starOr(p.APIGroup, a.APIGroup)
	}
	if prefix := strings.TrimRight(p.NonResourcePath, "*"); prefix != p.NonResourcePath {
		return strings.HasPrefix(a.Path, prefix)
	}
	return p.NonResourcePath == a.Path
}

func starOr(rule, have string) bool { return rule == "*" || rule == have }

// abacReading are the verbs that a readonly policy allows.
var abacReading = []string{"get", "list", "watch"}

// Authorize implements Authorizer.
func (l ABAC) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	for i := range l {
		if l[i].allows(&a) {
			return Allow, "", nil
		}
	}
	return NoOpinion, "No policy matched.", nil
}

// RulesFor implements RuleResolver.
func (l ABAC) RulesFor(user *authn.Identity, namespace string) (Rules, error) {
	var out Rules
	for i := range l {
		p := &l[i]
		if !p.of(user) || !starOr(p.Namespace, namespace) {
			continue
		}
		verbs := []string{"*"}
		if p.Readonly {
			verbs = abacReading
		}
		if p.Resource != "" {
			out.List = append(out.List, rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{p.APIGroup}, Resources: []string{p.Resource}})
		}
		if p.NonResourcePath != "" {
			out.List = append(out.List, rbacv1.PolicyRule{Verbs: verbs, NonResourceURLs: []string{p.NonResourcePath}})
		}
	}
	return out, nil
}
