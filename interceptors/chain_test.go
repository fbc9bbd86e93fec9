package interceptors_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/interceptors/ratelimit"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/limit"
	"github.com/tcmanager/tcmanager/service/store"
)

// detail returns the only detail of its type.
func detail[T proto.Message](t *testing.T, err error) T {
	t.Helper()
	var found []T
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(T); ok {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d details of type %T in %v", len(found), *new(T), status.Convert(err).Proto())
	}
	return found[0]
}

func wantCode(t *testing.T, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("%v: want %s", err, code)
	}
}

func getMe(ctx context.Context, r *rig) (*pb.GetMeResponse, error) {
	return pb.NewIdentityServiceClient(r.conn).GetMe(ctx, &pb.GetMeRequest{})
}

func TestEveryBadTokenGetsTheSameAnswer(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	r := start(t, &fake{}, options{keys: identity.Keys{HS256Secret: secret, RS256PublicKey: &rsaKey.PublicKey, Issuer: "iss", Audience: "aud"}})
	good := func(change ...func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "u1", "iss": "iss", "aud": "aud", "exp": time.Now().Add(time.Hour).Unix()}
		for _, f := range change {
			f(c)
		}
		return c
	}
	set := func(name string, value any) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c[name] = value }
	}
	token := func(m jwt.SigningMethod, key any, c jwt.MapClaims) string {
		s, err := jwt.NewWithClaims(m, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, ok := range []string{token(jwt.SigningMethodHS256, secret, good()), token(jwt.SigningMethodRS256, rsaKey, good())} {
		if _, err := getMe(withToken(t, ok), r); err != nil {
			t.Fatalf("a good token: %v", err)
		}
	}

	bad := map[string]struct{ value, logged string }{
		"none":                   {"", "no token"},
		"another scheme":         {"Basic dTpw", "no token"},
		"garbage":                {"Bearer garbage", "malformed"},
		"expired":                {"Bearer " + token(jwt.SigningMethodHS256, secret, good(set("exp", time.Now().Add(-time.Minute).Unix()))), "expired"},
		"without an end":         {"Bearer " + token(jwt.SigningMethodHS256, secret, good(func(c jwt.MapClaims) { delete(c, "exp") })), "a required claim is missing"},
		"not valid yet":          {"Bearer " + token(jwt.SigningMethodHS256, secret, good(set("nbf", time.Now().Add(time.Minute).Unix()))), "not valid yet"},
		"unsigned":               {"Bearer " + token(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good()), "wrong signature or algorithm"},
		"cut signature":          {"Bearer " + strings.TrimRight(token(jwt.SigningMethodHS256, secret, good()), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"), "wrong signature or algorithm"},
		"wrong secret":           {"Bearer " + token(jwt.SigningMethodHS256, []byte("another secret of a sufficient length"), good()), "wrong signature or algorithm"},
		"another HMAC":           {"Bearer " + token(jwt.SigningMethodHS512, secret, good()), "wrong signature or algorithm"},
		"RSA key as HMAC secret": {"Bearer " + token(jwt.SigningMethodHS256, publicPEM, good()), "wrong signature or algorithm"},
		"another RSA algorithm":  {"Bearer " + token(jwt.SigningMethodPS256, rsaKey, good()), "wrong signature or algorithm"},
		"wrong issuer":           {"Bearer " + token(jwt.SigningMethodRS256, rsaKey, good(set("iss", "other"))), "wrong issuer"},
		"wrong audience":         {"Bearer " + token(jwt.SigningMethodRS256, rsaKey, good(set("aud", "other"))), "wrong audience"},
		"no user":                {"Bearer " + token(jwt.SigningMethodHS256, secret, good(set("sub", ""))), "no usable user id"},
		"a user with a slash":    {"Bearer " + token(jwt.SigningMethodHS256, secret, good(set("userId", "a/b"))), "no usable user id"},
		"a user of another type": {"Bearer " + token(jwt.SigningMethodHS256, secret, good(set("userId", 7))), "malformed"},
		"a huge token":           {"Bearer " + strings.Repeat("a", 17<<10), "longer than 16 KiB"},
	}
	want := status.Convert(identityAnswer()).Proto()
	for name, b := range bad {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if b.value != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", b.value)
			}
			_, err := getMe(ctx, r)
			if got := status.Convert(err).Proto(); got.Code != want.Code || got.Message != want.Message {
				t.Errorf("unary: %v", err)
			}
			if d := detail[*pb.Error](t, err); d.Reason != "UNAUTHENTICATED" || len(d.Metadata) > 0 {
				t.Errorf("the detail says more: %v", d)
			}
			stream, err := pb.NewRealtimeServiceClient(r.conn).Subscribe(ctx)
			if err == nil {
				_, err = stream.Recv()
			}
			if got := status.Convert(err).Proto(); got.Code != want.Code || got.Message != want.Message {
				t.Errorf("stream: %v", err)
			}
			if len(r.log.lines("GetMe", `auth.refused="`+b.logged, "Unauthenticated")) == 0 && len(r.log.lines("GetMe", "auth.refused="+b.logged, "Unauthenticated")) == 0 {
				t.Errorf("the log doesn't say %q:\n%s", b.logged, strings.Join(r.log.lines("auth.refused"), ""))
			}
			if _, bare, ok := strings.Cut(b.value, " "); ok && strings.Contains(r.log.String(), bare) {
				t.Error("the token is in the log")
			}
		})
	}
}

func identityAnswer() error {
	return status.Error(codes.Unauthenticated, identity.ErrUnauthenticated.Message)
}

func TestOnlyThePublicMethodsNeedNoToken(t *testing.T) {
	f := &fake{
		getMe:     func(context.Context) (*pb.GetMeResponse, error) { return &pb.GetMeResponse{}, nil }, // doesn't look itself
		subscribe: func(grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error { return nil },
		publish:   func(grpc.BidiStreamingServer[pb.PublishResultsRequest, pb.PublishResultsResponse]) error { return nil },
	}
	r := start(t, f, options{})
	open := map[string]bool{
		"/grpc.health.v1.Health/Check": true, "/grpc.health.v1.Health/Watch": true, "/grpc.health.v1.Health/List": true,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      true,
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": true,
		"/tcmanager.v1.IdentityService/GetServerInfo":                    true, "/tcmanager.v1.IdentityService/SignInDev": true,
	}
	seen := 0
	for service, info := range r.services {
		for _, m := range info.Methods {
			seen++
			name := "/" + service + "/" + m.Name
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			stream, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name)
			if err == nil {
				// A stream that was refused already can't be sent to; RecvMsg says why.
				_, _ = stream.SendMsg(&pb.GetMeRequest{}), stream.CloseSend()
				err = stream.RecvMsg(&pb.GetMeRequest{})
			}
			cancel()
			if refused := status.Code(err) == codes.Unauthenticated; refused == open[name] {
				t.Errorf("%s without a token: %v", name, err)
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d methods were tried", seen)
	}
}

func TestTheServiceLearnsWhoCalls(t *testing.T) {
	r := start(t, &fake{}, options{})
	me, err := getMe(as(t, "u1"), r)
	if err != nil || me.User.Id != "u1" || me.User.Name != "Some Body" {
		t.Fatal(me, err)
	}
	if len(r.log.lines("grpc.method=GetMe", "user.id=u1", "grpc.code=OK", "level=DEBUG", "peer.address=bufconn")) != 1 {
		t.Error(r.log.String())
	}
}

func TestACallOverTheLimitIsToldWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &fake{}, options{limits: ratelimit.Config{Calls: limit.Rate{PerSecond: 1, Burst: 3}}})
		for range 3 {
			if _, err := getMe(as(t, "busy"), r); err != nil {
				t.Fatal(err)
			}
		}
		_, err := getMe(as(t, "busy"), r)
		wantCode(t, err, codes.ResourceExhausted)
		if info := detail[*errdetails.ErrorInfo](t, err); info.Reason != ratelimit.Reason || info.Domain != fault.Domain {
			t.Error(info)
		}
		wait := detail[*errdetails.RetryInfo](t, err).RetryDelay.AsDuration()
		if wait <= 0 || wait > time.Second {
			t.Fatal(wait)
		}
		if own := detail[*pb.Error](t, err).RetryAfter.AsDuration(); own != wait {
			t.Error("the two delays differ:", own, wait)
		}
		if _, err := getMe(as(t, "calm"), r); err != nil {
			t.Error("another user is limited too:", err)
		}
		time.Sleep(wait)
		if _, err := getMe(as(t, "busy"), r); err != nil {
			t.Error("after the delay:", err)
		}
		// A refused call takes nothing: the next wait is no longer than this one.
		_, err = getMe(as(t, "busy"), r)
		if again := detail[*errdetails.RetryInfo](t, err).RetryDelay.AsDuration(); again > time.Second {
			t.Error("refusals lengthen the wait:", again)
		}
	})
}

func TestOpeningsOfStreamsCountAsCalls(t *testing.T) {
	r := start(t, &fake{subscribe: func(grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error { return nil }},
		options{limits: ratelimit.Config{Calls: limit.Rate{PerSecond: 0.001, Burst: 1}}})
	open := func() error {
		stream, err := pb.NewRealtimeServiceClient(r.conn).Subscribe(as(t, "u1"))
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	if err := open(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	err := open()
	wantCode(t, err, codes.ResourceExhausted)
	detail[*errdetails.RetryInfo](t, err)
}

func TestPublicMethodsAreLimitedByPeer(t *testing.T) {
	r := start(t, &fake{}, options{limits: ratelimit.Config{Calls: limit.Rate{PerSecond: 0.001, Burst: 1}}})
	c := pb.NewIdentityServiceClient(r.conn)
	if _, err := c.GetServerInfo(t.Context(), &pb.GetServerInfoRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err := c.GetServerInfo(t.Context(), &pb.GetServerInfoRequest{})
	wantCode(t, err, codes.ResourceExhausted)
}

func TestMessagesOfAStreamAreLimitedToo(t *testing.T) {
	received := make(chan int, 1)
	f := &fake{subscribe: func(s grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error {
		n := 0
		defer func() { received <- n }()
		for {
			if _, err := s.Recv(); err != nil {
				return err
			}
			n++
		}
	}}
	r := start(t, f, options{limits: ratelimit.Config{Messages: limit.Rate{PerSecond: 0.001, Burst: 5}}})
	stream, err := pb.NewRealtimeServiceClient(r.conn).Subscribe(as(t, "u1"))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if stream.Send(&pb.SubscribeRequest{}) != nil {
			break // the server has ended the stream
		}
	}
	_, err = stream.Recv()
	wantCode(t, err, codes.ResourceExhausted)
	if n := <-received; n != 5 {
		t.Errorf("%d messages came through", n)
	}
	if d := detail[*errdetails.RetryInfo](t, err); d.RetryDelay.AsDuration() <= 0 {
		t.Error(d)
	}
}

func TestAPanicEndsTheCallAndNotTheServer(t *testing.T) {
	f := &fake{
		getMe: func(context.Context) (*pb.GetMeResponse, error) { panic("secret detail") },
		subscribe: func(grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error {
			panic("secret detail")
		},
	}
	r := start(t, f, options{})
	_, err := getMe(as(t, "u1"), r)
	wantCode(t, err, codes.Internal)
	stream, streamErr := pb.NewRealtimeServiceClient(r.conn).Subscribe(as(t, "u1"))
	if streamErr != nil {
		t.Fatal(streamErr)
	}
	_, streamErr = stream.Recv()
	wantCode(t, streamErr, codes.Internal)
	for _, err := range []error{err, streamErr} {
		if strings.Contains(fmt.Sprint(status.Convert(err).Proto()), "secret") {
			t.Error("the client was told", err)
		}
	}
	if n := len(r.log.lines("msg=panic", "secret detail", "chain_test.go", "level=ERROR")); n != 2 {
		t.Errorf("%d lines with a stack:\n%s", n, r.log)
	}
	f.getMe = nil
	if _, err := getMe(as(t, "u1"), r); err != nil {
		t.Error("afterwards:", err)
	}
}

func TestAPanicInAnInterceptorIsCaughtToo(t *testing.T) {
	r := start(t, &fake{}, options{keeper: keeper{panics: true}})
	_, err := getMe(as(t, "u1"), r)
	wantCode(t, err, codes.Internal)
}

func TestAMessageThatBreaksARuleIsNamedByItsField(t *testing.T) {
	r := start(t, &fake{}, options{})
	_, err := pb.NewProjectServiceClient(r.conn).CreateProject(as(t, "u1"), &pb.CreateProjectRequest{Key: "Not A Key", Name: strings.Repeat("x", 200)})
	wantCode(t, err, codes.InvalidArgument)
	bad := detail[*errdetails.BadRequest](t, err).FieldViolations
	if len(bad) != 2 || bad[0].Field != "key" || bad[1].Field != "name" || bad[0].Description == "" {
		t.Error(bad)
	}
	own := detail[*pb.Error](t, err)
	if own.Reason != "INVALID_FIELD" || len(own.Violations) != 2 || own.Violations[0].Field != "key" || own.Code != uint32(codes.InvalidArgument) {
		t.Error(own)
	}
	if info := detail[*errdetails.ErrorInfo](t, err); info.Reason != "INVALID_FIELD" {
		t.Error(info)
	}
	if len(status.Convert(err).Details()) != 3 {
		t.Error("the middleware's own detail was not replaced:", status.Convert(err).Details())
	}
}

func TestBadFramesReachTheSessionAndThePublisher(t *testing.T) {
	f := &fake{
		subscribe: func(s grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error {
			_, err := s.Recv()
			return err
		},
		publish: func(s grpc.BidiStreamingServer[pb.PublishResultsRequest, pb.PublishResultsResponse]) error {
			_, err := s.Recv()
			return err
		},
	}
	r := start(t, f, options{})
	sub, err := pb.NewRealtimeServiceClient(r.conn).Subscribe(as(t, "u1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Send(&pb.SubscribeRequest{}); err != nil { // a frame is required
		t.Fatal(err)
	}
	if _, err := sub.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	pub, err := pb.NewExecutionServiceClient(r.conn).PublishResults(as(t, "u1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := pub.Send(&pb.PublishResultsRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pub.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code codes.Code
		text string
	}{
		{"a fault", fault.New(fault.Conflict, "REVISION_MISMATCH", "read again"), codes.Aborted, "read again"},
		{"a wrapped fault", fmt.Errorf("edit: %w", fault.New(fault.Denied, "ACCESS_DENIED", "no")), codes.PermissionDenied, "no"},
		{"a plain error", errors.New("disk /var/secret is full"), codes.Internal, "internal error; the server's log has the details"},
		{"a status", status.Error(codes.DataLoss, "as it is"), codes.DataLoss, "as it is"},
		{"a closed store", fmt.Errorf("read: %w", store.ErrClosed), codes.Unavailable, "the server is stopping; try again in a moment"},
		{"a store that is away", fmt.Errorf("read: %w", store.ErrUnavailable), codes.Unavailable, "the server can't reach its database at the moment; nothing was done: try again"},
		{"a commit in doubt", fmt.Errorf("edit: %w", store.ErrUncertain), codes.Unavailable,
			"the server lost its database in the middle; it may have been done: repeat it with the same request id, or look"},
		{"a context that isn't the call's", fmt.Errorf("dial: %w", context.Canceled), codes.Internal, "internal error; the server's log has the details"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, &fake{getMe: func(context.Context) (*pb.GetMeResponse, error) { return nil, c.err }}, options{})
			_, err := getMe(as(t, "u1"), r)
			if st := status.Convert(err); st.Code() != c.code || st.Message() != c.text {
				t.Error(err)
			}
			logged := len(r.log.lines("internal error", "grpc.full_method=/tcmanager.v1.IdentityService/GetMe", "level=ERROR", c.err.Error()))
			if want := c.code == codes.Internal; (logged == 1) != want || logged > 1 {
				t.Errorf("logged %d times:\n%s", logged, r.log)
			}
		})
	}
}

func TestAFaultIsCarriedWhole(t *testing.T) {
	e := fault.Field("items[3].status", "must be set").With("current_revision", "7").After(3 * time.Second)
	r := start(t, &fake{getMe: func(context.Context) (*pb.GetMeResponse, error) { return nil, e }}, options{})
	_, err := getMe(as(t, "u1"), r)
	info := detail[*errdetails.ErrorInfo](t, err)
	if info.Reason != "INVALID_FIELD" || info.Domain != "tcmanager" || info.Metadata["current_revision"] != "7" {
		t.Error(info)
	}
	if d := detail[*errdetails.RetryInfo](t, err).RetryDelay.AsDuration(); d != 3*time.Second {
		t.Error(d)
	}
	if v := detail[*errdetails.BadRequest](t, err).FieldViolations; len(v) != 1 || v[0].Field != "items[3].status" || v[0].Description != "must be set" {
		t.Error(v)
	}
	if own := detail[*pb.Error](t, err); !proto.Equal(own, fault.Proto(e)) {
		t.Error(own)
	}
}

func TestACallThatRanOutOfTimeSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		r := start(t, &fake{getMe: func(ctx context.Context) (*pb.GetMeResponse, error) {
			defer close(ended)
			<-ctx.Done()
			return nil, errors.New("read: interrupted")
		}}, options{})
		ctx, cancel := context.WithTimeout(as(t, "u1"), 5*time.Second)
		defer cancel()
		_, err := getMe(ctx, r)
		wantCode(t, err, codes.DeadlineExceeded)
		<-ended
		synctest.Wait()
		// The server's own deadline and the client's cancellation come at the same
		// moment; either is right.
		told := len(r.log.lines("DeadlineExceeded", "level=WARN")) + len(r.log.lines("grpc.code=Canceled", "level=DEBUG"))
		if len(r.log.lines("internal error")) > 0 || told != 1 {
			t.Error(r.log)
		}
	})
}

func TestTheOrderOfTheOnion(t *testing.T) {
	r := start(t, &fake{}, options{limits: ratelimit.Config{Calls: limit.Rate{PerSecond: 0.001, Burst: 2}}})
	invalid := func(ctx context.Context) error {
		_, err := pb.NewProjectServiceClient(r.conn).CreateProject(ctx, &pb.CreateProjectRequest{})
		return err
	}
	// Who may not call learns nothing of rules and takes nobody's tokens.
	for range 5 {
		wantCode(t, invalid(t.Context()), codes.Unauthenticated)
	}
	// A flood of bad messages is a flood: limits come before rules.
	wantCode(t, invalid(as(t, "u1")), codes.InvalidArgument)
	wantCode(t, invalid(as(t, "u1")), codes.InvalidArgument)
	wantCode(t, invalid(as(t, "u1")), codes.ResourceExhausted)
	// Refusals are counted and logged with the code that the client got.
	want := `
		# HELP grpc_server_handled_total Total number of RPCs completed on the server, regardless of success or failure.
		# TYPE grpc_server_handled_total counter
		grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="CreateProject",grpc_service="tcmanager.v1.ProjectService",grpc_type="unary"} 2
		grpc_server_handled_total{grpc_code="ResourceExhausted",grpc_method="CreateProject",grpc_service="tcmanager.v1.ProjectService",grpc_type="unary"} 1
		grpc_server_handled_total{grpc_code="Unauthenticated",grpc_method="CreateProject",grpc_service="tcmanager.v1.ProjectService",grpc_type="unary"} 5
	`
	if err := testutil.GatherAndCompare(r.registry, strings.NewReader(want), "grpc_server_handled_total"); err != nil {
		t.Error(err)
	}
	if n := len(r.log.lines("finished call", "grpc.code=ResourceExhausted", "level=WARN", "user.id=u1")); n != 1 {
		t.Errorf("%d lines:\n%s", n, r.log)
	}
}

func TestRequestsAndTokensAreNeverLogged(t *testing.T) {
	r := start(t, &fake{createProject: func(context.Context, *pb.CreateProjectRequest) (*pb.CreateProjectResponse, error) {
		return nil, errors.New("broken")
	}}, options{})
	token := sign(t, "u1")
	_, err := pb.NewProjectServiceClient(r.conn).CreateProject(withToken(t, token), &pb.CreateProjectRequest{Key: "visible-key", Name: "A Very Private Name"})
	wantCode(t, err, codes.Internal)
	_, signature, _ := strings.Cut(token[10:], ".")
	for _, private := range []string{"Very Private", "visible-key", token, signature} {
		if strings.Contains(r.log.String(), private) {
			t.Errorf("%q is in the log", private)
		}
	}
}
