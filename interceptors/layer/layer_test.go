package layer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc"
)

type bare struct{ grpc.ServerStream }

func (bare) Context() context.Context { return context.Background() }

type name struct{}

func TestLayersOpenFromOutsideAndEndFromInside(t *testing.T) {
	var told []string
	tell := func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
	refused := errors.New("refused")
	layer := func(is string, open func() error) Layer {
		return func(ss grpc.ServerStream, _ *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
			before, _ := ss.Context().Value(name{}).(string)
			tell("open %s in %q", is, before)
			return WithContext(context.WithValue(ss.Context(), name{}, before+is), ss), func(err error) error {
				tell("end %s: %v", is, err)
				return err
			}, open()
		}
	}
	nothing := func(grpc.ServerStream, *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
		return nil, nil, nil
	}
	fine := func() error { return nil }
	serve := func(inner Layer, handler grpc.StreamHandler) error {
		told = nil
		layers := &Layers{
			All:     []Layer{layer("a", fine), nothing, layer("b", fine), inner},
			Recover: func(_ context.Context, method string, p any) error { return fmt.Errorf("%s: %v", method, p) },
		}
		return layers.Stream()("service", bare{}, &grpc.StreamServerInfo{FullMethod: "/m"}, handler)
	}
	handled := func(srv any, ss grpc.ServerStream) error {
		tell("handle %v in %v", srv, ss.Context().Value(name{}))
		return nil
	}
	for _, c := range []struct {
		what    string
		inner   Layer
		handler grpc.StreamHandler
		err     string
		told    []string
	}{
		{"goes well", nothing, handled, "<nil>", []string{`open a in ""`, `open b in "a"`, "handle service in ab", "end b: <nil>", "end a: <nil>"}},
		{"is refused", layer("c", func() error { return refused }), handled, "refused", []string{
			`open a in ""`, `open b in "a"`, `open c in "ab"`, "end c: refused", "end b: refused", "end a: refused",
		}},
		{"panics while it opens", layer("c", func() error { panic("opening") }), handled, "/m: opening", []string{
			`open a in ""`, `open b in "a"`, `open c in "ab"`, "end b: /m: opening", "end a: /m: opening",
		}},
		{"panics", nothing, func(any, grpc.ServerStream) error { panic("handling") }, "/m: handling", []string{
			`open a in ""`, `open b in "a"`, "end b: /m: handling", "end a: /m: handling",
		}},
	} {
		if err := serve(c.inner, c.handler); fmt.Sprint(err) != c.err || !slices.Equal(told, c.told) {
			t.Errorf("a stream that %s: %v\n%q, want\n%q", c.what, err, told, c.told)
		}
	}
}
