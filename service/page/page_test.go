package page_test

import (
	"encoding/base64"
	"slices"
	"strconv"
	"testing"

	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/page"
)

const (
	comments page.List = "comments"
	cases    page.List = "test_cases"
	id                 = "0190b0c0-0000-7000-8000-000000000001"
)

func TestATokenLeadsBackToItsPlace(t *testing.T) {
	if got, err := comments.UUID(comments.Token(id)); err != nil || got != id {
		t.Errorf("UUID gave %q, %v", got, err)
	}
	if got, err := cases.Number(cases.Token("4294967295")); err != nil || got != 4294967295 {
		t.Errorf("Number gave %d, %v", got, err)
	}
}

func TestNoTokenIsTheFirstPage(t *testing.T) {
	if got := comments.Token(""); got != "" {
		t.Errorf("nothing follows, and the token is %q", got)
	}
	if got, err := comments.UUID(""); err != nil || got != "" {
		t.Errorf("UUID gave %q, %v", got, err)
	}
	if got, err := cases.Number(""); err != nil || got != 0 {
		t.Errorf("Number gave %d, %v", got, err)
	}
}

func TestATokenNobodyGaveIsAFaultOfItsField(t *testing.T) {
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for name, token := range map[string]string{
		"not base64":       "%%%",
		"no list":          encode(id),
		"another list":     cases.Token(id),
		"no cursor":        encode("comments:"),
		"not an id":        comments.Token("12; DROP TABLE comment"),
		"not a number":     cases.Token("-1"),
		"too large":        cases.Token("9223372036854775808"),
		"the raw cursor":   id,
		"padded otherwise": comments.Token("1") + "==",
	} {
		t.Run(name, func(t *testing.T) {
			_, asID := comments.UUID(token)
			_, asNumber := cases.Number(token)
			for _, err := range []error{asID, asNumber} {
				if f := fault.Of(err); f == nil || f.Kind != fault.Invalid || f.Violations[0].Field != "page_token" {
					t.Errorf("got %v, want a fault about page_token", err)
				}
			}
		})
	}
}

func TestSizeIsTheDefaultForZero(t *testing.T) {
	if got := page.Size(0, 50); got != 50 {
		t.Errorf("got %d", got)
	}
	if got := page.Size(7, 50); got != 7 {
		t.Errorf("got %d", got)
	}
}

func TestCutNamesTheLastItemOnlyIfMoreFollow(t *testing.T) {
	for _, tc := range []struct {
		read []int // with a limit of 3+1
		page []int
		last string
	}{
		{nil, nil, ""},
		{[]int{1, 2}, []int{1, 2}, ""},
		{[]int{1, 2, 3}, []int{1, 2, 3}, ""},
		{[]int{1, 2, 3, 4}, []int{1, 2, 3}, "3"},
	} {
		got, last := page.Cut(tc.read, 3, strconv.Itoa)
		if !slices.Equal(got, tc.page) || last != tc.last {
			t.Errorf("%v: got %v, %q", tc.read, got, last)
		}
	}
}
