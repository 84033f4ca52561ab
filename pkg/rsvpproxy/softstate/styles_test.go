package softstate

import (
	"slices"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// conformance is one case: after before, do has the effects want; tc, unless
// "-", is what traffic control is asked for.
type conformance struct {
	name, before, do, want, tc string
}

// check runs a case for both address families.
func (c *conformance) check(t *testing.T) {
	c.checkAs(t, wire.FormatPorts)
}

// checkAs does it for a session of a format.
func (c *conformance) checkAs(t *testing.T, format wire.Format) {
	t.Helper()
	for _, family := range []string{"ipv4", "ipv6"} {
		t.Run(c.name+"/"+family, func(t *testing.T) {
			l := newLab(t, family == "ipv6")
			l.use(format)
			for _, order := range lines(c.before) {
				l.do(order)
			}
			var es []Effect
			for _, order := range lines(c.do) {
				es = append(es, l.do(order)...)
			}
			msgs, tc := l.tell(es)
			want := lines(c.want)
			slices.Sort(want)
			if !slices.Equal(msgs, want) {
				t.Errorf("got  %s\nwant %s", strings.Join(msgs, "; "), strings.Join(want, "; "))
			}
			if c.tc != "-" && !slices.Equal(tc, lines(c.tc)) {
				t.Errorf("traffic control: %s, want %s", strings.Join(tc, "; "), c.tc)
			}
		})
	}
}

func lines(s string) (out []string) {
	for _, x := range strings.FieldsFunc(s, func(r rune) bool { return r == ';' || r == '\n' }) {
		if x = strings.TrimSpace(x); x != "" {
			out = append(out, x)
		}
	}
	return out
}

const (
	senders    = "path S1; path S2; path S3"
	threePaths = senders + ";"
)

// The styles and their merging: figures 4 to 9 of RFC 2205 and the rules that
// they illustrate.
var styleCases = []conformance{
	// Figure 5: wildcard filter.
	{"RFC2205/2.4/figure5-first", senders, "resv c R1 WF *{4}", "P1 resv WF *{4} [S1]; P2 resv WF *{4} [S2,S3]", "c S1,S2,S3{4} M"},
	{"RFC2205/2.4/figure5-smaller-branch-changes-nothing-upstream", threePaths + "resv c R1 WF *{4}", "resv d R2 WF *{3}", "", "d S1,S2,S3{3} M B"},
	{"RFC2205/2.4/figure5-merge-on-one-interface", threePaths + "resv d R2 WF *{2}", "resv d R3 WF *{3}", "P1 resv WF *{3} [S1]; P2 resv WF *{3} [S2,S3]", "d S1,S2,S3{3} M"},
	{"RFC2205/2.4/figure5-smaller-on-one-interface", threePaths + "resv d R2 WF *{3}", "resv d R3 WF *{2}", "", ""},
	{"RFC2205/2.4/figure5-larger-branch", threePaths + "resv d R2 WF *{3}", "resv c R1 WF *{4}", "P1 resv WF *{4} [S1]; P2 resv WF *{4} [S2,S3]", "c S1,S2,S3{4} M; d S1,S2,S3{3} M B"},
	// Figure 6: fixed filter.
	{"RFC2205/2.4/figure6-first", senders, "resv c R1 FF S1{4},S2{5}", "P1 resv FF S1{4}; P2 resv FF S2{5}", "c S1{4}; c S2{5}"},
	{"RFC2205/2.4/figure6-second-branch", threePaths + "resv c R1 FF S1{4},S2{5}", "resv d R2 FF S1{3},S3{1}", "P2 resv FF S3{1}", "d S1{3} B; d S3{1}"},
	{"RFC2205/2.4/figure6-all-senders-of-one-hop-stay-apart", threePaths + "resv c R1 FF S2{5}", "resv d R3 FF S3{1}", "P2 resv FF S3{1}", "d S3{1}"},
	{"RFC2205/2.4/figure6-merge-on-one-interface", threePaths + "resv d R2 FF S1{3}", "resv d R3 FF S1{1}", "", ""},
	// Figure 7: shared explicit.
	{"RFC2205/2.4/figure7-first", senders, "resv c R1 SE S1,S2{1}", "P1 resv SE S1{1}; P2 resv SE S2{1}", "c S1,S2{1} M"},
	{"RFC2205/2.4/figure7-second", threePaths + "resv c R1 SE S1,S2{1}", "resv d R2 SE S1,S3{3}", "P1 resv SE S1{3}; P2 resv SE S2,S3{3}", "d S1,S3{3} M; c S1,S2{1} M B"},
	{"RFC2205/2.4/figure7-third", threePaths + "resv c R1 SE S1,S2{1}; resv d R2 SE S1,S3{3}", "resv d R3 SE S2{2}", "", "d S1,S2,S3{3} M"},
	{"RFC2205/2.4/se-one-sender-is-no-merge-point", senders, "resv c R1 SE S1{1}", "P1 resv SE S1{1}", "c S1{1}"},
	{"RFC2205/2.4/wf-one-sender-is-no-merge-point", "path S1", "resv c R1 WF *{1}", "P1 resv WF *{1}", "c S1{1}"},
	// Style conflicts: error 5 with the existing style.
	{"RFC2205/2.4/ff-then-wf", threePaths + "resv c R1 FF S1{1}", "resv d R2 WF *{1}", "R2 resverr 5 WF *{1}", ""},
	{"RFC2205/2.4/ff-then-se", threePaths + "resv c R1 FF S1{1}", "resv d R2 SE S2{1}", "R2 resverr 5 SE S2{1}", ""},
	{"RFC2205/2.4/wf-then-ff", threePaths + "resv c R1 WF *{1}", "resv d R2 FF S1{1}", "R2 resverr 5 FF S1{1}", ""},
	{"RFC2205/2.4/wf-then-se", threePaths + "resv c R1 WF *{1}", "resv c R1 SE S1{1}", "R1 resverr 5 SE S1{1}", ""},
	{"RFC2205/2.4/se-then-wf", threePaths + "resv c R1 SE S1{1}", "resv c R4 WF *{1}", "R4 resverr 5 WF *{1}", ""},
	{"RFC2205/2.4/se-then-ff", threePaths + "resv c R1 SE S1{1}", "resv d R2 FF S1{1},S2{2}", "R2 resverr 5 FF S1{1}; R2 resverr 5 FF S2{2}", ""},
	{"RFC2205/2.4/other-style-after-tear", threePaths + "resv c R1 WF *{1}; resvtear c R1 WF", "resv c R1 FF S1{1}", "P1 resv FF S1{1}", "c S1{1}"},
	// Selection of senders.
	{"RFC2205/3.1.4/wf-without-path", "", "resv c R1 WF *{1}", "R1 resverr 3 WF *{1}", ""},
	{"RFC2205/3.1.4/wf-no-sender-routes-there", "members d; path S1", "resv c R1 WF *{1}", "R1 resverr 4 WF *{1}", ""},
	{"RFC2205/3.1.4/se-no-sender-matches", senders, "resv c R1 SE S4{1}", "R1 resverr 4 SE S4{1}", ""},
	{"RFC2209/resv/se-unknown-sender-left-out", senders, "resv c R1 SE S1,S4{1}", "P1 resv SE S1{1}", "c S1{1}"},
	{"RFC2209/resv/se-unknown-sender-found-later", threePaths + "resv c R1 SE S1,S4{1}; path S4", "resv c R1 SE S1,S4{1}", "P3 resv SE S4{1}", "c S1,S4{1} M"},
	{"RFC2209/resv/se-filters-add-up", threePaths + "resv c R1 SE S1{1}", "resv c R1 SE S2{1}", "P2 resv SE S2{1}", "c S1,S2{1} M"},
	{"RFC2209/resv/ff-unknown-sender-stands-alone", senders, "resv c R1 FF S1{1},S4{2}", "P1 resv FF S1{1}; R1 resverr 4 FF S4{2}", "c S1{1}"},
	{"RFC2209/resv/refresh-is-silent-wf", threePaths + "resv c R1 WF *{4}", "resv c R1 WF *{4}", "", ""},
	{"RFC2209/resv/refresh-is-silent-se", threePaths + "resv c R1 SE S1,S2{4}", "resv c R1 SE S1,S2{4}", "", ""},
	{"RFC2209/resv/refresh-is-silent-ff", threePaths + "resv c R1 FF S1{4},S2{4}", "resv c R1 FF S1{4},S2{4}", "", ""},
	{"RFC2205/3.1.4/wf-grows", threePaths + "resv c R1 WF *{1}", "resv c R1 WF *{2}", "P1 resv WF *{2} [S1]; P2 resv WF *{2} [S2,S3]", "c S1,S2,S3{2} M"},
	{"RFC2205/3.1.4/wf-shrinks", threePaths + "resv c R1 WF *{2}", "resv c R1 WF *{1}", "P1 resv WF *{1} [S1]; P2 resv WF *{1} [S2,S3]", "c S1,S2,S3{1} M"},
	{"RFC2205/3.1.4/se-grows", threePaths + "resv c R1 SE S1,S2{1}", "resv c R1 SE S1,S2{2}", "P1 resv SE S1{2}; P2 resv SE S2{2}", "c S1,S2{2} M"},
	{"RFC2205/2.2/installed-is-the-senders-sum-wf", "path S1{1}; path S2{2}", "resv c R1 WF *{9}", "P1 resv WF *{9} [S1]; P2 resv WF *{9} [S2]", "c S1,S2{3} M"},
	{"RFC2205/2.2/installed-is-the-senders-sum-se", "path S1{1}; path S2{2}; path S3{4}", "resv c R1 SE S1,S3{9}", "P1 resv SE S1{9}; P2 resv SE S3{9}", "c S1,S3{5} M"},
	{"RFC2205/2.2/installed-is-the-receivers-request", "path S1{5}; path S2{5}", "resv c R1 WF *{3}", "P1 resv WF *{3} [S1]; P2 resv WF *{3} [S2]", "c S1,S2{3} M"},
	{"RFC2210/2.2/services-do-not-mix-on-branches", threePaths + "resv c R1 WF *{3}", "resv d R2 WF *{3} guaranteed", "R2 resverr 21 WF *{3}", ""},
	{"RFC2210/2.2/services-do-not-mix-on-an-interface", threePaths + "resv c R1 SE S1{3}", "resv c R4 SE S1{3} guaranteed", "R4 resverr 21i SE S1{3}", ""},
	{"RFC2210/2.2/distinct-senders-may-differ", threePaths + "resv c R1 FF S1{3}", "resv d R2 FF S2{3} guaranteed", "P2 resv FF S2{3}", "d S2{3}"},
	// Policing flags.
	{"RFC2205/3.8/e-police", "path S1 police", "resv c R1 FF S1{1}", "P1 resv FF S1{1}", "c S1{1} E"},
	{"RFC2205/3.8/e-police-of-one-of-several", "path S1; path S2 police", "resv c R1 WF *{1}", "P1 resv WF *{1} [S1]; P2 resv WF *{1} [S2]", "c S1,S2{1} E M"},
	{"RFC2205/3.8/no-merge-in-distinct-style", senders, "resv c R1 FF S1{1}", "P1 resv FF S1{1}", "c S1{1}"},
	{"RFC2205/3.8/branch-flag-goes-with-the-larger-branch", threePaths + "resv c R1 FF S1{4}; resv d R2 FF S1{3}", "resvtear c R1 FF S1", "P1 resv FF S1{3}", "release; d S1{3}"},
	{"RFC2205/3.8/branch-flag-comes-with-a-larger-branch", threePaths + "resv c R1 SE S1{1}", "resv d R2 SE S1{3}", "P1 resv SE S1{3}", "d S1{3}; c S1{1} B"},
	// Changes of path state under a reservation.
	{"RFC2209/path/new-sender-joins-wf", "path S1; resv c R1 WF *{4}", "path S2", "c path S2; d path S2; P2 resv WF *{4} [S2]; P1 resv WF *{4} [S1]", "c S1,S2{4} M"},
	{"RFC2209/path/new-sender-of-the-same-hop-joins-wf", "path S2; resv c R1 WF *{4}", "path S3", "c path S3; d path S3", "c S2,S3{4} M"},
	{"RFC2209/path/new-sender-does-not-join-se", "path S1; resv c R1 SE S1{4}", "path S2", "c path S2; d path S2", ""},
	{"RFC2209/path/new-sender-does-not-join-ff", "path S1; resv c R1 FF S1{4}", "path S2", "c path S2; d path S2", ""},
	{"RFC2209/path/tspec-grows-under-wf", "path S1{2}; resv c R1 WF *{4}", "path S1{3}", "c path S1; d path S1", "c S1{3}"},
	{"RFC2205/3.6/new-previous-hop-gets-the-wf-resv", "path S1; resv c R1 WF *{4}; home S1 a P4", "path S1", "c path S1; d path S1; P1 resv WF *{4} [S1]; P4 resv WF *{4} [S1]", ""},
	{"RFC2205/3.6/new-previous-hop-gets-the-se-resv", "path S1; resv c R1 SE S1{4}; home S1 a P4", "path S1", "c path S1; d path S1; P4 resv SE S1{4}", ""},
	{"RFC2205/3.6/new-previous-hop-gets-the-ff-resv", "path S1; resv c R1 FF S1{4}; home S1 a P4", "path S1", "c path S1; d path S1; P4 resv FF S1{4}", ""},
	{"RFC2205/3.1.5/pathtear-ff-releases", threePaths + "resv c R1 FF S1{4},S2{5}", "pathtear S1", "c pathtear S1; d pathtear S1", "release"},
	{"RFC2205/3.1.5/pathtear-se-no-refresh", threePaths + "resv c R1 SE S1,S2{4}", "pathtear S1", "c pathtear S1; d pathtear S1", "c S2{4}"},
	{"RFC2205/3.1.5/pathtear-se-last", "path S1; resv c R1 SE S1{4}", "pathtear S1", "c pathtear S1; d pathtear S1", "release"},
	{"RFC2205/3.1.5/pathtear-wf-not-the-last", threePaths + "resv c R1 WF *{4}", "pathtear S1", "c pathtear S1; d pathtear S1", "c S2,S3{4} M"},
	{"RFC2205/3.1.5/pathtear-wf-last", "path S1; resv c R1 WF *{4}", "pathtear S1", "c pathtear S1; d pathtear S1", "release"},
	{"RFC2205/3.1.5/pathtear-wf-both-branches", "path S1; resv c R1 WF *{4}; resv d R2 WF *{4}", "pathtear S1", "c pathtear S1; d pathtear S1", "release; release"},
	{"RFC2205/3.1.5/pathtear-refused-change-tells-nobody", "path S1{4}; path S2{4}; resv c R1 WF *{8}; limit 1", "pathtear S1", "c pathtear S1; d pathtear S1", "c S2{4}"},
	// ResvTear.
	{"RFC2205/3.1.6/figure6-r2-tears-s3", threePaths + "resv c R1 FF S1{4},S2{5}; resv d R2 FF S1{3},S3{1}; resv d R3 FF S1{1}", "resvtear d R2 FF S3", "P2 resvtear FF S3", "release"},
	{"RFC2205/3.1.6/figure6-r1-tears-s1", threePaths + "resv c R1 FF S1{4},S2{5}; resv d R2 FF S1{3},S3{1}; resv d R3 FF S1{1}", "resvtear c R1 FF S1", "P1 resv FF S1{3}", "release; d S1{3}"},
	{"RFC2205/3.1.6/figure6-r3-tears-s1", threePaths + "resv c R1 FF S1{4},S2{5}; resv d R2 FF S1{3},S3{1}; resv d R3 FF S1{1}", "resvtear d R3 FF S1", "", ""},
	{"RFC2205/3.1.6/wf-last", threePaths + "resv c R1 WF *{4}", "resvtear c R1 WF", "P1 resvtear WF; P2 resvtear WF", "release"},
	{"RFC2205/3.1.6/wf-larger-branch", threePaths + "resv c R1 WF *{4}; resv d R2 WF *{3}", "resvtear c R1 WF", "P1 resv WF *{3} [S1]; P2 resv WF *{3} [S2,S3]", "release; d S1,S2,S3{3} M"},
	{"RFC2205/3.1.6/wf-smaller-branch", threePaths + "resv c R1 WF *{4}; resv d R2 WF *{3}", "resvtear d R2 WF", "", "release"},
	{"RFC2205/3.1.6/wf-larger-on-an-interface", threePaths + "resv d R2 WF *{4}; resv d R3 WF *{3}", "resvtear d R2 WF", "P1 resv WF *{3} [S1]; P2 resv WF *{3} [S2,S3]", "d S1,S2,S3{3} M"},
	{"RFC2205/3.1.6/wf-scope-is-ignored", "path S1; resv c R1 WF *{4}", "resvtear c R1 WF [S2]", "P1 resvtear WF", "release"},
	{"RFC2205/3.1.6/se-subset", threePaths + "resv c R1 SE S1,S2{4}", "resvtear c R1 SE S1", "P1 resvtear SE S1", "c S2{4}"},
	{"RFC2205/3.1.6/se-subset-of-a-hop", threePaths + "resv c R1 SE S2,S3{4}", "resvtear c R1 SE S3", "P2 resvtear SE S3", "c S2{4}"},
	{"RFC2205/3.1.6/se-all", threePaths + "resv c R1 SE S1,S2{4}", "resvtear c R1 SE S1,S2", "P1 resvtear SE S1; P2 resvtear SE S2", "release"},
	{"RFC2205/3.1.6/se-other-branch-keeps-the-sender", threePaths + "resv c R1 SE S1{4}; resv d R2 SE S1{4}", "resvtear c R1 SE S1", "", "release"},
	{"RFC2205/3.1.6/se-other-hop-keeps-the-sender", threePaths + "resv d R3 SE S1{4}; resv d R2 SE S1{4}", "resvtear d R3 SE S1", "", ""},
	{"RFC2205/3.1.6/style-does-not-match", threePaths + "resv c R1 SE S1{4}", "resvtear c R1 FF S1; resvtear c R1 WF", "", ""},
	{"RFC2205/3.1.6/hop-does-not-match", threePaths + "resv c R1 WF *{4}", "resvtear c R4 WF; resvtear d R1 WF", "", ""},
	{"RFC2205/3.1.6/filter-does-not-match", threePaths + "resv c R1 SE S1{4}", "resvtear c R1 SE S2", "", ""},
	// Time is a tear, too.
	{"RFC2205/2.3/wf-expires", "path S1; resv c R1 WF *{4}; wait 100s; path S1", "wait 60s", "P1 resv WF *{4}; c path S1; d path S1; c path S1; d path S1; P1 resvtear WF", "release"},
}

func TestConformanceStyles(t *testing.T) {
	for i := range styleCases {
		styleCases[i].check(t)
	}
}
