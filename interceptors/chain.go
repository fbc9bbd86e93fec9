// Package interceptors is the onion around every method. The same grpc.Server
// stands behind the native listener and the web's, so the same chain serves
// every carrier. The order stands here and nowhere else.
package interceptors

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/tcmanager/tcmanager/interceptors/auth"
	"github.com/tcmanager/tcmanager/interceptors/faults"
	"github.com/tcmanager/tcmanager/interceptors/flow"
	"github.com/tcmanager/tcmanager/interceptors/layer"
	"github.com/tcmanager/tcmanager/interceptors/logging"
	"github.com/tcmanager/tcmanager/interceptors/metrics"
	"github.com/tcmanager/tcmanager/interceptors/ratelimit"
	"github.com/tcmanager/tcmanager/interceptors/recovery"
	"github.com/tcmanager/tcmanager/interceptors/validation"
)

// Config is what the chain needs.
type Config struct {
	Log           *slog.Logger
	Registerer    prometheus.Registerer // where the metrics are registered
	Authenticator auth.Authenticator
	Limits        ratelimit.Config
}

// Onion is the chain for those who serve calls.
type Onion struct {
	Options []grpc.ServerOption // for a grpc.Server
	// Layers are the same, and count in the same counters, for streams that come
	// another way than through a grpc.Server.
	Layers *layer.Layers
}

// Chain returns the interceptors:
//
//	metrics        outermost: counts everything, refusals included, by the code the client got
//	  logging      logs the same; inside metrics, so that writing a line is not timed as someone's work
//	    faults     inside both: they see statuses. Outside of all that returns faults
//	      recovery inside faults: a panic becomes an error like any other. Outside of the rest, because a
//	               token, a limit or a rule can panic too, and an unrecovered panic ends the process
//	        flow   gives a browser's window back as soon as a message is taken, whatever becomes of it
//	          auth        before the limits, which are by user
//	            ratelimit before the rules, so that a flood of bad messages is a flood
//	              validation  last: a service sees only messages that keep the rules
//	                the service
func Chain(c Config) (Onion, error) {
	counters, err := metrics.New(c.Registerer)
	if err != nil {
		return Onion{}, err
	}
	limits := ratelimit.New(c.Limits)
	layers := &layer.Layers{Recover: recovery.Stream(c.Log), All: []layer.Layer{
		counters.Stream,
		logging.Stream(c.Log),
		faults.Stream(c.Log),
		flow.Stream,
		auth.Stream(c.Authenticator),
		limits.Stream,
		validation.Stream(),
	}}
	return Onion{Layers: layers, Options: []grpc.ServerOption{
		grpc.StreamInterceptor(layers.Stream()),
		grpc.ChainUnaryInterceptor(
			counters.Unary(),
			logging.Unary(c.Log),
			faults.Unary(c.Log),
			recovery.Unary(c.Log),
			auth.Unary(c.Authenticator), // a call has no flow: it is one message
			limits.Unary(),
			validation.Unary(),
		),
	}}, nil
}
