package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// whoamiJSON is what whoami --json prints.
type whoamiJSON struct {
	Server         string `json:"server"`
	ID             string `json:"id"`
	Name           string `json:"name"`
	Email          string `json:"email,omitempty"`
	TokenExpiresAt string `json:"token_expires_at,omitempty"`
}

func newWhoami(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:     "whoami",
		Short:   "Say which server this is and whom the token names",
		Example: "  tcm whoami\n  TCM_SERVER=tcm.example.com:9090 tcm whoami --token-file ~/.tcm-token --json",
		Args:    cobra.NoArgs,
	}
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return g.call(cmd.Context(), func(ctx context.Context, client *tcmanager.Client) error {
			me, err := client.Identity().GetMe(ctx, &tcmv1.GetMeRequest{})
			if err != nil {
				return err
			}
			u := me.GetUser()
			if *asJSON {
				return g.terminal.printJSON(whoamiJSON{
					Server: client.Addr(), ID: u.GetId(), Name: u.GetName(), Email: u.GetEmail(), TokenExpiresAt: rfc3339(me.GetTokenExpiresAt()),
				})
			}
			_, err = fmt.Fprintf(g.terminal.out, "%s (%s) at %s\n", u.GetName(), u.GetId(), client.Addr())
			return err
		})
	}
	return c
}
