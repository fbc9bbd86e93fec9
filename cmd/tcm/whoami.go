package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

func newWhoami(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "whoami",
		Short: "Say who the token belongs to, and which server answers",
		Example: `  tcm whoami
  TCM_TOKEN=... tcm whoami --server tcm.example.com:9090 --json`,
		Args: cobra.NoArgs,
	}
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return g.call(c.Context(), func(ctx context.Context, client *tcmanager.Client) error {
			info, err := client.Identity().GetServerInfo(ctx, &tcmv1.GetServerInfoRequest{})
			if err != nil {
				return err
			}
			me, err := client.Identity().GetMe(ctx, &tcmv1.GetMeRequest{})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(g.terminal.out, identity{
					UserID: me.GetUser().GetId(), Name: me.GetUser().GetName(), Email: me.GetUser().GetEmail(), TokenExpiresAt: timeJSON(me.GetTokenExpiresAt()),
					Server: client.Addr(), ServerVersion: info.GetVersion(), Dev: info.GetDev(), URL: info.GetPublicUrl(),
				})
			}
			return printIdentity(g.terminal, client, info, me)
		})
	}
	return c
}

// identity is the JSON of whoami.
type identity struct {
	UserID         string `json:"user_id"`
	Name           string `json:"name"`
	Email          string `json:"email,omitempty"`
	TokenExpiresAt string `json:"token_expires_at,omitempty"`
	Server         string `json:"server"`
	ServerVersion  string `json:"server_version"`
	Dev            bool   `json:"dev"`
	URL            string `json:"url"`
}

func printIdentity(t *terminal, client *tcmanager.Client, info *tcmv1.GetServerInfoResponse, me *tcmv1.GetMeResponse) error {
	until := ""
	if me.GetTokenExpiresAt() != nil {
		until = ", until " + me.GetTokenExpiresAt().AsTime().Local().Format(time.DateTime)
	}
	mode := ""
	if info.GetDev() {
		mode = ", development"
	}
	_, err := fmt.Fprintf(t.out, "%s (%s%s)\nserver  %s (%s%s)\npage    %s\n",
		printable(me.GetUser().GetName()), printable(me.GetUser().GetId()), until, client.Addr(), printable(info.GetVersion()), mode, printable(info.GetPublicUrl()))
	return err
}
