package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/identity"
)

// usageError is a mistake in what was asked for: a wrong flag, value or command.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tcmanager",
		Short: "Test runs and test cases, live",
		Long: `tcmanager is a server that lets a team watch its tests run and work on its test
cases together, live. Test runners stream results in with "tcm"; people watch
and edit in a browser; anyone inspects with grpcurl.`,
		Example: `  tcmanager serve --dev                       # try it out, then:
  go test -json ./... | tcm stream --project demo`,
		SilenceErrors: true, // main prints them once
		SilenceUsage:  true,
		Args:          noArgs, // checked only by a command that can be run
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w; see \"%s --help\"", err, cmd.CommandPath())}
	})
	root.AddCommand(serveCommand(), configCommand(), tokenCommand(), backupCommand(), restoreCommand(), versionCommand())
	return root
}

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start the server",
		Long: `serve starts the server with two listeners: one for gRPC, one for browsers.

Every option can also be set by the environment variable named beside it, and
in a YAML file under the name of its flag. A flag wins over the environment, which
wins over the file. "tcmanager config" prints what is in force, and with --example
a file to begin with.

With --tls-cert and --tls-key both listeners speak TLS, and take a renewed
certificate over without a restart. Without, they serve this machine only, unless
--insecure-plaintext says that the network is trusted.

A first SIGINT or SIGTERM stops the server cleanly: it tells its clients to come
back, finishes what is running, and closes the store. A second one ends it at once.`,
		Example: `  # To try it out: sign in without a password, on this machine only.
  tcmanager serve --dev

  # With tokens that another program signs with a shared secret.
  openssl rand -hex 32 > secret && chmod 600 secret
  tcmanager serve --jwt-hs256-secret-file secret --public-url https://tests.example.org

  # For other machines, over TLS, with the options in a file.
  tcmanager config --example > tcmanager.yaml
  tcmanager serve --config tcmanager.yaml --grpc-addr :9090 --http-addr :443 \
      --tls-cert cert.pem --tls-key key.pem

  # With the tokens of an identity provider.
  tcmanager serve --jwt-rs256-key-file provider.pem \
      --jwt-issuer https://id.example.org --jwt-audience tcmanager`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := config.Load(cmd.Flags(), os.LookupEnv)
			if err = errors.Join(err, c.Check()); err != nil {
				return &usageError{err}
			}
			return serve(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	config.Flags(cmd.Flags())
	cmd.SetUsageFunc(groupedUsage)
	return cmd
}

// groupedUsage prints how a command is used, with the server's options below
// their headings.
func groupedUsage(cmd *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n\nExamples:\n%s\n", cmd.UseLine(), cmd.Example)
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, ofServer := f.Value.(interface{ OfServer() }); !ofServer {
			own.AddFlag(f)
		}
	})
	fmt.Fprintf(&b, "\nFlags of this command:\n%s", own.FlagUsagesWrapped(helpWidth))
	for _, g := range config.Groups() {
		fmt.Fprintf(&b, "\n%s:\n%s", g.Title, g.Flags.FlagUsagesWrapped(helpWidth))
	}
	_, err := io.WriteString(cmd.OutOrStderr(), b.String())
	return err
}

// helpWidth is where the help breaks its lines.
const helpWidth = 110

func configCommand() *cobra.Command {
	var asJSON, example bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the options in force, and where each came from",
		Long: `config prints every option as "tcmanager serve" would use it with the same flags,
environment and file, and where it came from: flag, env, file with the line, or
default. Secrets are not shown. It ends with 2 if the server would refuse to start.

With --example it prints a configuration file instead, which holds every option
with what it is for, at its default.`,
		Example: `  tcmanager config --dev
  TCM_LOG_LEVEL=debug tcmanager config --config tcmanager.yaml --json
  tcmanager config --example > tcmanager.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if example {
				return config.Example(cmd.OutOrStdout())
			}
			c, settings, err := config.Load(cmd.Flags(), os.LookupEnv)
			if printErr := printSettings(cmd.OutOrStdout(), settings, asJSON); printErr != nil {
				return printErr
			}
			if err = errors.Join(err, c.Check()); err != nil {
				return &usageError{err}
			}
			return nil
		},
	}
	config.Flags(cmd.Flags())
	cmd.SetUsageFunc(groupedUsage)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&example, "example", false, "print a configuration file with everything at its default")
	return cmd
}

func printSettings(w io.Writer, settings []config.Setting, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(settings)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	table := append([]config.Setting{{Name: "OPTION", Value: "VALUE", Source: "FROM", Env: "VARIABLE"}}, settings...)
	for _, s := range table {
		if _, err := fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Name, s.Value, s.Source, s.Env); err != nil {
			return err
		}
	}
	return t.Flush()
}

func tokenCommand() *cobra.Command {
	var user pb.User
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token --user ID",
		Short: "Sign a token with the configured secret",
		Long: `token prints a JWT for a user, signed with the HS256 secret that "tcmanager serve"
would use with the same flags, environment and file; with --dev that is the one in
the data directory. Give it to tcm as TCM_TOKEN.`,
		Example: `  TCM_TOKEN=$(tcmanager token --jwt-hs256-secret-file secret --user ci-bot --ttl 720h)
  tcmanager token --dev --user demo-tester`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := config.Load(cmd.Flags(), os.LookupEnv)
			if err != nil {
				return &usageError{err}
			}
			if user.Id == "" {
				return &usageError{errors.New("--user is missing: whose token is it to be?")}
			}
			signer, err := signerOf(c)
			if err != nil {
				return &usageError{err}
			}
			token, _, err := signer.Sign(&user, ttl)
			if err != nil {
				return &usageError{err}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	config.Flags(cmd.Flags())
	cmd.SetUsageFunc(groupedUsage)
	cmd.Flags().StringVar(&user.Id, "user", "", "the user's id")
	cmd.Flags().StringVar(&user.Email, "email", "", "the user's email")
	cmd.Flags().StringVar(&user.Name, "name", "", "the name to show")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it is good for")
	return cmd
}

// signerOf returns a signer whose tokens a server with this configuration accepts.
func signerOf(c config.Config) (*identity.Signer, error) {
	keys := c.Keys()
	if keys.HS256Secret == nil {
		if !c.Dev {
			return nil, errors.New("there is no secret to sign with: set --jwt-hs256-secret-file or TCM_JWT_HS256_SECRET, or --dev with the data directory of a development server")
		}
		secret, err := identity.DevSecret(c.DataDir)
		if err != nil {
			return nil, err
		}
		keys.HS256Secret = secret
	}
	return identity.NewSigner(keys)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace("tcmanager "+version+" "+revision()))
			return err
		},
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{fmt.Errorf("unexpected %q; see \"%s --help\"", args[0], cmd.CommandPath())}
}
