package edge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
)

// readyTimeout bounds /readyz: whoever asks gives up soon after.
const readyTimeout = 2 * time.Second

func (e *Edge) alive(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, health{Status: "ok"})
}

func (e *Edge) ready(ready func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if e.stopping.Load() {
			writeJSON(w, http.StatusServiceUnavailable, health{Status: "stopping"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		if err := ready(ctx); err != nil {
			// Only what callers are told too: the rest is in the server's log, not for
			// everyone to read.
			why := ""
			if e := fault.Of(err); e != nil {
				why = e.Message
			}
			writeJSON(w, http.StatusServiceUnavailable, health{Status: "unavailable", Why: why})
			return
		}
		writeJSON(w, http.StatusOK, health{Status: "ok"})
	}
}

// health is the answer of the three addresses. What follows Why is for /health.
type health struct {
	Status    string     `json:"status"`
	Why       string     `json:"why,omitempty"`   // the server isn't ready, and what to do
	Token     string     `json:"token,omitempty"` // "none", "valid" or "invalid"
	User      string     `json:"user,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

func (e *Edge) token(verify func(string) (identity.Caller, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		token, given, err := bearer(r)
		if !given {
			writeJSON(w, http.StatusOK, health{Status: "ok", Token: "none"})
			return
		}
		var caller identity.Caller
		if err == nil {
			caller, err = verify(token)
		}
		if err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeJSON(w, http.StatusUnauthorized, health{Status: "ok", Token: "invalid"})
			return
		}
		expires := caller.ExpiresAt.UTC()
		writeJSON(w, http.StatusOK, health{Status: "ok", Token: "valid", User: caller.User.GetId(), ExpiresAt: &expires})
	}
}

// bearer returns the token of a request; given is false without an
// authorization header.
func bearer(r *http.Request) (token string, given bool, err error) {
	value := r.Header.Get("Authorization")
	if value == "" {
		return "", false, nil
	}
	scheme, token, ok := strings.Cut(value, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return "", true, errors.New("not a bearer token")
	}
	return token, true, nil
}

func writeJSON(w http.ResponseWriter, code int, h health) {
	body, err := json.Marshal(h)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError) // a moment after the year 9999
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// An error here means that the client has gone.
	_, _ = w.Write(append(body, '\n'))
}
