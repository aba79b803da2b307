package authn

import authenticationv1 "k8s.io/api/authentication/v1"

// Info is the identity as it is told to others.
func (i *Identity) Info() authenticationv1.UserInfo {
	if i == nil {
		return authenticationv1.UserInfo{}
	}
	out := authenticationv1.UserInfo{Username: i.Name, UID: i.UID, Groups: i.Groups}
	if len(i.Extra) > 0 {
		out.Extra = make(map[string]authenticationv1.ExtraValue, len(i.Extra))
		for k, v := range i.Extra {
			out.Extra[k] = v
		}
	}
	return out
}
