// Package certificate keeps the TLS certificate of the listeners: it reads the
// pair of PEM files, and reads them again when they change, so that a renewed
// certificate needs no restart.
//
// # Concurrency
//
// A Keeper starts no goroutine. The files are looked at during handshakes, by one
// of them at a time; the others go on with the pair that is there and never wait
// for a disk.
package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// checkEvery bounds how often the files are looked at: a flood of handshakes
	// costs two stats in this time.
	checkEvery = 2 * time.Second
	// soon is how long before its end a certificate is warned about: whoever renews
	// automatically has done so by then.
	soon = 14 * 24 * time.Hour
)

// Load reads a certificate with its chain, and the key, from PEM files. Its
// errors name the file and say what to do.
func Load(certFile, keyFile string) (*tls.Certificate, error) {
	chain, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	if !hasBlock(chain, "CERTIFICATE") {
		return nil, fmt.Errorf("%s holds no certificate: it must be a PEM file that begins with the server's own and goes on with those between it and its authority", certFile)
	}
	switch {
	case bytes.Contains(key, []byte("ENCRYPTED")):
		return nil, fmt.Errorf("the key in %s is encrypted, and nobody is there to be asked for its password: decrypt it (\"openssl pkey -in %s -out key.pem && chmod 600 key.pem\")", keyFile, keyFile)
	case !bytes.Contains(key, []byte("PRIVATE KEY-----")):
		return nil, fmt.Errorf("%s holds no private key: it must be the PEM file of the key that belongs to %s", keyFile, certFile)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s are no pair (%w): give the key that the certificate was made for", certFile, keyFile, err)
	}
	return &pair, nil
}

func hasBlock(b []byte, kind string) bool {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return false
		}
		if block.Type == kind {
			return true
		}
	}
}

// Keeper holds the certificate in use.
type Keeper struct {
	certFile, keyFile string
	log               *slog.Logger

	current atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // guards the rest
	checked time.Time
	seen    [2]stamp // of the files when they were last read
}

// stamp tells one version of a file from another; nil if it can't be had.
type stamp struct{ os.FileInfo }

// is reports whether two stamps are of one version. Another file that took the
// place of the first may have its size and have been written in the same moment.
func (a stamp) is(b stamp) bool {
	if a.FileInfo == nil || b.FileInfo == nil {
		return a.FileInfo == b.FileInfo
	}
	return os.SameFile(a.FileInfo, b.FileInfo) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// New reads the files. What is dubious about them, an end that is near or past
// or a key that others can read, is logged.
func New(certFile, keyFile string, log *slog.Logger) (*Keeper, error) {
	k := &Keeper{certFile: certFile, keyFile: keyFile, log: log, checked: time.Now()}
	k.seen = k.stamps() // before reading: a change in between is seen the next time
	pair, err := Load(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	k.current.Store(pair)
	k.warn()
	return k, nil
}

// TLS returns what a listener needs; each asks the Keeper at each handshake.
func (k *Keeper) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.get(), nil },
	}
}

// Leaf is the server's own certificate.
func (k *Keeper) Leaf() *x509.Certificate { return k.current.Load().Leaf }

func (k *Keeper) get() *tls.Certificate {
	if k.mu.TryLock() {
		defer k.mu.Unlock()
		if now := time.Now(); now.Sub(k.checked) >= checkEvery {
			k.checked = now
			k.refreshLocked()
		}
	}
	return k.current.Load()
}

// refreshLocked takes the files over if they have changed and are a pair. When
// they are written one after the other they aren't for a moment; the second
// change is seen as well.
func (k *Keeper) refreshLocked() {
	seen := k.stamps()
	if seen[0].is(k.seen[0]) && seen[1].is(k.seen[1]) {
		return
	}
	k.seen = seen
	pair, err := Load(k.certFile, k.keyFile)
	if err != nil {
		k.log.Warn("the certificate has changed but can't be used: the old one stays", "error", err, "until", k.Leaf().NotAfter.UTC().Format(time.RFC3339))
		return
	}
	k.current.Store(pair)
	k.log.Info("the certificate was replaced", "until", k.Leaf().NotAfter.UTC().Format(time.RFC3339))
	k.warn()
}

func (k *Keeper) stamps() (s [2]stamp) {
	for i, file := range []string{k.certFile, k.keyFile} {
		if info, err := os.Stat(file); err == nil {
			s[i] = stamp{info}
		}
	}
	return s
}

func (k *Keeper) warn() {
	leaf, now := k.Leaf(), time.Now()
	until := leaf.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case now.After(leaf.NotAfter):
		k.log.Warn("the certificate has expired, so clients will refuse it: renew it; no restart is needed", "file", k.certFile, "until", until)
	case now.Before(leaf.NotBefore):
		k.log.Warn("the certificate isn't good yet, so clients will refuse it: is this machine's clock right?", "file", k.certFile, "from", leaf.NotBefore.UTC().Format(time.RFC3339))
	case leaf.NotAfter.Sub(now) < soon:
		k.log.Warn("the certificate expires soon: renew it; no restart is needed", "file", k.certFile, "until", until)
	}
	info, err := os.Stat(k.keyFile)
	if err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		k.log.Warn("everyone on this machine may read or write the key: chmod o-rwx", "file", k.keyFile, "mode", info.Mode().Perm().String())
	}
}
