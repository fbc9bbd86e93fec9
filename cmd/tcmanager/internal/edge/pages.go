package edge

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// minCompressed is from where compressing pays: a smaller file fits one packet.
const minCompressed = 1400

// pages serves a built single-page application out of memory.
type pages struct {
	files  fs.FS
	policy string

	mu    sync.Mutex
	cache map[string]*asset // by path; bounded by the number of embedded files
}

// asset is one file, ready to be sent.
type asset struct {
	body    []byte
	gzipped []byte // nil if compressing doesn't pay
	etag    string
	mime    string
}

func newPages(files fs.FS, publicURL string) *pages {
	return &pages{files: files, policy: contentSecurityPolicy(publicURL), cache: make(map[string]*asset)}
}

// contentSecurityPolicy allows what the page needs: its own files, styles that
// the components set on elements, and websockets to its own host. Browsers of
// today count the latter as 'self'; the public address is named for older ones.
func contentSecurityPolicy(publicURL string) string {
	connect := "'self'"
	if u, err := url.Parse(publicURL); err == nil && u.Host != "" {
		scheme := map[string]string{"http": "ws", "https": "wss"}[u.Scheme]
		connect += " " + scheme + "://" + u.Host
	}
	return strings.Join([]string{
		"default-src 'self'",
		"style-src 'self' 'unsafe-inline'",
		"img-src 'self' data:",
		"connect-src " + connect,
		"object-src 'none'",
		"frame-ancestors 'none'",
		"base-uri 'none'",
		"form-action 'self'",
	}, "; ")
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this is the web page; to call the server use gRPC or grpc-web", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	a := p.asset(name)
	if a == nil && isRoute(name) {
		// A route of the application: the page itself finds out what it means.
		name, a = "index.html", p.asset("index.html")
		if a == nil {
			notBuilt(w)
			return
		}
	}
	if a == nil {
		http.NotFound(w, r)
		return
	}
	p.serve(w, r, name, a)
}

func (p *pages) serve(w http.ResponseWriter, r *http.Request, name string, a *asset) {
	h := w.Header()
	h.Set("Content-Type", a.mime)
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Vary", "Accept-Encoding")
	if strings.HasPrefix(name, "assets/") {
		h.Set("Cache-Control", "public, max-age=31536000, immutable") // the name changes with the content
	} else {
		h.Set("Cache-Control", "no-cache") // may be kept, but is asked for again
	}
	body, etag := a.body, a.etag
	if a.gzipped != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		body, etag = a.gzipped, a.etag+"-gzip"
	}
	h.Set("ETag", `"`+etag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// isRoute tells addresses of pages from addresses of files and of methods that
// don't exist: those get a 404, which is easier to understand than a page where
// a script was expected.
func isRoute(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return first != "assets" && !strings.HasPrefix(first, "tcmanager.") && !strings.HasPrefix(first, "grpc.")
}

// asset returns a file; nil if there is none.
func (p *pages) asset(name string) *asset {
	if name == "" {
		name = "index.html"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if a, ok := p.cache[name]; ok {
		return a
	}
	if strings.HasPrefix(path.Base(name), ".") || !fs.ValidPath(name) {
		return nil
	}
	body, err := fs.ReadFile(p.files, name)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(body)
	a := &asset{body: body, etag: hex.EncodeToString(sum[:12]), mime: mime.TypeByExtension(path.Ext(name))}
	if a.mime == "" {
		a.mime = http.DetectContentType(body)
	}
	if len(body) >= minCompressed && compressible(a.mime) {
		a.gzipped = compress(body)
	}
	p.cache[name] = a
	return a
}

func compressible(mime string) bool {
	kind, _, _ := strings.Cut(mime, ";")
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "javascript") ||
		strings.HasSuffix(kind, "json") || strings.HasSuffix(kind, "+xml") || kind == "application/wasm"
}

// compress returns nil if the result is no smaller.
func compress(body []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil
	}
	if _, err := w.Write(body); err != nil {
		return nil
	}
	if err := w.Close(); err != nil || b.Len() >= len(body) {
		return nil
	}
	return b.Bytes()
}

// acceptsGzip reads an Accept-Encoding header: gzip must be named, and not with
// the weight 0.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(part, ";")
		if strings.TrimSpace(coding) != "gzip" {
			continue
		}
		weight, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		if !ok {
			return true
		}
		q, err := strconv.ParseFloat(weight, 64)
		return err == nil && q > 0
	}
	return false
}

const notBuiltPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TCManager</title></head>
<body><h1>TCManager is running, without its web page</h1>
<p>This binary was built before the page was. Stop the server, run <code>make build</code>, and start it again.</p>
<p>gRPC works all the same: see <code>tcm --help</code> and <code>grpcurl</code>.</p></body></html>
`

func notBuilt(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusServiceUnavailable)
	// An error here means that the browser has gone.
	_, _ = w.Write([]byte(notBuiltPage))
}
