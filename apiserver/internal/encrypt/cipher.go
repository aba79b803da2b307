package encrypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
)

// box encrypts values. The key of the store binds a value to its place where the cipher can authenticate more than the value.
type box interface {
	seal(key string, plain []byte) ([]byte, error)
	open(key string, sealed []byte) ([]byte, error)
}

var errShort = errors.New("the stored data was shorter than the required size")

// plainBox stores values as they are, and reads what is not encrypted.
type plainBox struct{}

var errEncrypted = errors.New("identity transformer tried to read encrypted data")

func (plainBox) seal(_ string, plain []byte) ([]byte, error) { return plain, nil }

func (plainBox) open(_ string, sealed []byte) ([]byte, error) {
	if bytes.HasPrefix(sealed, encrypted) {
		return nil, errEncrypted
	}
	return sealed, nil
}

// gcmBox is AES-GCM: a random nonce of 12 bytes, then the sealed value, authenticated with the key of the store.
type gcmBox struct{ aead cipher.AEAD }

func newGCM(secret []byte) (box, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return gcmBox{aead}, err
}

func (b gcmBox) seal(key string, plain []byte) ([]byte, error) {
	n := b.aead.NonceSize()
	out := make([]byte, n, n+len(plain)+b.aead.Overhead())
	if _, err := rand.Read(out); err != nil {
		return nil, err
	}
	return b.aead.Seal(out, out[:n], plain, []byte(key)), nil
}

func (b gcmBox) open(key string, sealed []byte) ([]byte, error) {
	n := b.aead.NonceSize()
	if len(sealed) < n {
		return nil, errShort
	}
	return b.aead.Open(nil, sealed[:n], sealed[n:], []byte(key))
}

// cbcBox is AES-CBC with PKCS #7 padding: a random block, then the encrypted ones. Nothing is authenticated.
type cbcBox struct{ block cipher.Block }

func newCBC(secret []byte) (box, error) {
	block, err := aes.NewCipher(secret)
	return cbcBox{block}, err
}

func (b cbcBox) seal(_ string, plain []byte) ([]byte, error) {
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	out := make([]byte, aes.BlockSize+len(plain)+padding)
	if _, err := rand.Read(out[:aes.BlockSize]); err != nil {
		return nil, err
	}
	body := out[aes.BlockSize:]
	copy(body[copy(body, plain):], bytes.Repeat([]byte{byte(padding)}, padding))
	cipher.NewCBCEncrypter(b.block, out[:aes.BlockSize]).CryptBlocks(body, body)
	return out, nil
}

func (b cbcBox) open(_ string, sealed []byte) ([]byte, error) {
	if len(sealed) < 2*aes.BlockSize {
		return nil, errShort
	}
	iv, body := sealed[:aes.BlockSize], sealed[aes.BlockSize:]
	if len(body)%aes.BlockSize != 0 {
		return nil, errors.New("the stored data is not a multiple of the block size")
	}
	out := make([]byte, len(body))
	cipher.NewCBCDecrypter(b.block, iv).CryptBlocks(out, body)
	padding := int(out[len(out)-1])
	if padding == 0 || padding > aes.BlockSize || !bytes.Equal(out[len(out)-padding:], bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, errors.New("invalid padding on input")
	}
	return out[:len(out)-padding], nil
}

// secretBox is XSalsa20 and Poly1305: a random nonce of 24 bytes, then the sealed value.
type secretBox struct{ key [32]byte }

func newSecretBox(secret []byte) (box, error) {
	b := &secretBox{}
	if len(secret) != len(b.key) {
		return nil, fmt.Errorf("a key of %d bytes instead of %d", len(secret), len(b.key))
	}
	copy(b.key[:], secret)
	return b, nil
}

const secretNonce = 24

func (b *secretBox) seal(_ string, plain []byte) ([]byte, error) {
	var nonce [secretNonce]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	return secretbox.Seal(nonce[:], plain, &nonce, &b.key), nil
}

func (b *secretBox) open(_ string, sealed []byte) ([]byte, error) {
	if len(sealed) < secretNonce+secretbox.Overhead {
		return nil, errShort
	}
	nonce := [secretNonce]byte(sealed)
	out, ok := secretbox.Open(nil, sealed[secretNonce:], &nonce, &b.key)
	if !ok {
		return nil, errors.New("the stored data was not sealed by this key")
	}
	return out, nil
}
