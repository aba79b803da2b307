package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// jwt is a token that nobody signed.
func jwt(header, claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc([]byte(claims)) + "." + enc([]byte("signature"))
}

// credentials are those that nobody has.
func credentials() []attack {
	const group = "Credentials"
	bearer := func(token string) request { return get(configMaps).as(token) }
	const issuer = `"iss":"https://kubernetes.default.svc"`
	return []attack{
		{group: group, name: "a token of 2 MiB", want: []string{"431", closed}, run: ask(bearer(strings.Repeat("a", 2*mib)))},
		{group: group, name: "a token of 900 KiB, ten at once", want: []string{"401"}, run: many(10, bearer(strings.Repeat("a", 900<<10)))},
		{group: group, name: "a token of 450,000 dots, ten at once", want: []string{"401"}, run: many(10, bearer(strings.Repeat(".a", 450_000)))},
		{group: group, name: "a JWT signed by none", want: []string{"401"}, run: ask(bearer(jwt(`{"alg":"none"}`, `{`+issuer+`,"sub":"system:serviceaccount:kube-system:default"}`)))},
		{group: group, name: "a JWT whose claims are nested 200,000 deep", want: []string{"401"}, run: ask(bearer(jwt(`{"alg":"RS256"}`, nested(200_000, "[", "", "]"))))},
		{group: group, name: "a JWT whose header is nested 200,000 deep", want: []string{"401"}, run: ask(bearer(jwt(nested(200_000, "[", "", "]"), "{"+issuer+"}")))},
		{group: group, name: "a JWT of 50,000 audiences", want: []string{"401"}, run: ask(bearer(jwt(`{"alg":"RS256"}`, `{`+issuer+`,"aud":[`+join(50_000, func(i int) string { return fmt.Sprintf(`"a%d"`, i) })+`]}`)))},
		{group: group, name: "4,000 tokens that are all different", want: []string{"401"}, time: 20 * time.Second, run: func(ctx context.Context, t *target) (answers, error) {
			return parallel(8, func(i int) (answers, error) {
				sum := answers{}
				for n := range 500 {
					code, _, err := t.do(ctx, bearer(fmt.Sprintf("%s-%d-%d", strings.Repeat("t", 1000), i, n)))
					if err != nil {
						return nil, err
					}
					sum.add(one(code))
				}
				return sum, nil
			})
		}},
		{group: group, name: "10,000 groups to act as", want: []string{"400", "403", "431"}, run: ask(impersonating("Impersonate-Group", 10_000))},
		{group: group, name: "10,000 groups to act as, of nobody", want: []string{"400", "403", "431"}, run: ask(impersonating("Impersonate-Group", 10_000).as(nobody))},
		{group: group, name: "the headers of a front proxy without its certificate", want: []string{"403"}, run: ask(request{method: "GET", path: configMaps, token: nobody, header: http.Header{"X-Remote-User": {"admin"}, "X-Remote-Group": {"system:masters"}}})},
		{group: group, name: "client certificates of 2,000 names that nobody signed, ten at once", want: []string{"401", "403", closed}, run: certified},
	}
}

// impersonating is a request with a header many times, by somebody who may not.
func impersonating(name string, n int) request {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf("g%d", i)
	}
	return request{method: "GET", path: configMaps, token: malloryToken, header: http.Header{"Impersonate-User": {"admin"}, name: values}}
}

// certified comes with a certificate that nobody known has signed.
func certified(ctx context.Context, t *target) (answers, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	// A certificate in TLS is bounded: 2,000 names of this length fit.
	for i := range 2_000 {
		template.DNSNames = append(template.DNSNames, fmt.Sprintf("n%d.example.com", i))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: [][]byte{der, der}, PrivateKey: key}}}}
	defer tr.CloseIdleConnections()
	u := *t
	u.http = &http.Client{Transport: tr}
	return many(10, get(configMaps).as(nobody))(ctx, &u)
}
