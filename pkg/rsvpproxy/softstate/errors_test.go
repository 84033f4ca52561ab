package softstate

import "testing"

// Figure 11 of RFC 2205: every interface has senders and receivers. S4 is
// behind a, S1 behind b, S2 and S3 behind c.
const figure11 = "home S4 a P1; home S1 b P2; home S2 c R1; home S3 c R1; members a b c; path S1; path S2; path S3; path S4;"

// SCOPE, ResvErr, blockade, confirmation.
var errorCases = []conformance{
	{"RFC2205/3.4/no-scope-for-one-previous-hop", "path S2; path S3", "resv c R1 WF *{4}", "P2 resv WF *{4}", "-"},
	{"RFC2205/3.4/scope-for-two-previous-hops", "path S2; path S4", "resv c R1 WF *{4}", "P2 resv WF *{4} [S2]; P3 resv WF *{4} [S4]", "-"},
	{"RFC2205/3.4/no-scope-in-explicit-styles", senders, "resv c R1 SE S1,S2{4}", "P1 resv SE S1{4}; P2 resv SE S2{4}", "-"},
	{"RFC2205/3.4/scope-from-downstream-goes-on-with-one-hop", "path S2; path S3", "resv c R1 WF *{4} [S2]", "P2 resv WF *{4} [S2]", "-"},
	{"RFC2205/3.4/figure11-from-c", figure11, "resv c R1 WF *{4} [S4,S1]", "P1 resv WF *{4} [S4]; P2 resv WF *{4} [S1]", "c S1,S4{4} M"},
	{"RFC2205/3.4/figure11-from-a", figure11 + "resv c R1 WF *{4} [S4,S1]", "resv a P1 WF *{4} [S1,S2,S3]", "R1 resv WF *{4} [S2,S3]", "a S1,S2,S3{4} M"},
	{"RFC2205/3.4/figure11-from-b-changes-nothing", figure11 + "resv c R1 WF *{4} [S4,S1]; resv a P1 WF *{4} [S1,S2,S3]", "resv b P2 WF *{4} [S2,S3,S4]", "", "b S2,S3,S4{4} M"},
	{"RFC2205/3.4/figure11-from-b-alone", figure11, "resv b P2 WF *{4} [S2,S3,S4]", "P1 resv WF *{4} [S4]; R1 resv WF *{4} [S2,S3]", "b S2,S3,S4{4} M"},
	{"RFC2205/3.4/union-of-scopes", "path S1; path S2; path S3; resv c R1 WF *{4} [S1,S2]", "resv d R2 WF *{4} [S3]", "P2 resv WF *{4} [S2,S3]", "-"},
	{"RFC2205/3.4/substitute-list", senders + "; resv c R1 WF *{4} [S1]", "resv d R2 WF *{4}", "P2 resv WF *{4} [S2,S3]", "-"},
	{"RFC2205/3.4/empty-scope-is-not-sent", senders, "resv c R1 WF *{4} [S4]", "", "-"},
	{"RFC2205/3.4/scope-grows", senders + "; resv c R1 WF *{4} [S1]", "resv c R1 WF *{4} [S1,S2]", "P1 resv WF *{4} [S1]; P2 resv WF *{4} [S2]", "-"},
	{"RFC2205/3.4/scope-shrinks", senders + "; resv c R1 WF *{4} [S1,S2]", "resv c R1 WF *{4} [S1]", "P1 resv WF *{4} [S1]; P2 resvtear WF", "-"},
	{"RFC2205/3.4/local-senders-are-left-out", "home S1 b P2; add S1; path S2; path S4", "resv d R2 WF *{4}", "P2 resv WF *{4} [S2]; P3 resv WF *{4} [S4]", "-"},
	{"RFC2205/3.4/resverr-copies-the-scope", senders + "; limit 1", "resv c R1 WF *{4} [S1,S2]", "R1 resverr 1 WF *{4} [S1,S2]", "-"},
	{"RFC2205/3.4/resverr-scope-is-reduced", figure11 + "resv c R1 WF *{4} [S4,S1]; resv b P2 WF *{4} [S4,S2,S3]", "resverr P1 WF *{4} [S2,S4] 2", "P2 resverr 2 WF *{4} [S4]; R1 resverr 2 WF *{4} [S4]", "-"},
	// Errors found here.
	{"RFC2205/3.1.8/wf-refused", senders + "; limit 1", "resv c R1 WF *{4}", "R1 resverr 1 WF *{4}", "-"},
	{"RFC2205/3.1.8/se-refused", senders + "; limit 1", "resv c R1 SE S1,S2{4}", "R1 resverr 1 SE S1,S2{4}", "-"},
	{"RFC2205/3.1.8/ff-one-resverr-each", senders + "; limit 1", "resv c R1 FF S1{4},S2{3}", "R1 resverr 1 FF S1{4}; R1 resverr 1 FF S2{3}", "-"},
	{"RFC2205/3.1.8/wf-increase-refused-in-place", senders + "; limit 4; resv c R1 WF *{4}", "resv c R1 WF *{5}", "R1 resverr 1i WF *{5}", "-"},
	{"RFC2205/3.1.8/se-increase-refused-in-place", senders + "; limit 4; resv c R1 SE S1{4}", "resv c R1 SE S1{5}", "R1 resverr 1i SE S1{5}", "-"},
	{"RFC2205/3.1.8/se-new-next-hop-refused-in-place", senders + "; limit 4; resv d R2 SE S1{4}", "resv d R3 SE S1{5}", "R3 resverr 1i SE S1{5}", "-"},
	{"RFC2205/3.1.8/refused-branch-leaves-the-other", senders + "; resv c R1 WF *{4}; limit 1", "resv d R2 WF *{4}", "R2 resverr 1 WF *{4}", "-"},
	{"RFC2205/3.1.8/withdrawn-wf", senders + "; resv c R1 WF *{4}", "withdraw", "R1 resverr 12 WF *{4}; P1 resvtear WF; P2 resvtear WF", "release"},
	{"RFC2205/3.1.8/withdrawn-se-both-next-hops", senders + "; resv d R2 SE S1{4}; resv d R3 SE S1,S2{3}", "withdraw", "R2 resverr 12 SE S1{4}; R3 resverr 12 SE S1,S2{3}; P1 resvtear SE S1; P2 resvtear SE S2", "release"},
	{"RFC2205/3.1.8/withdrawn-branch-leaves-the-other", senders + "; resv c R1 WF *{4}; resv d R2 WF *{3}", "withdraw", "R1 resverr 12 WF *{4}; P1 resv WF *{3} [S1]; P2 resv WF *{3} [S2,S3]", "release; d S1,S2,S3{3} M"},
	// Errors from upstream.
	{"RFC2209/rerr/wf-to-all-branches", "path S1; resv c R1 WF *{4}; resv d R2 WF *{3}", "resverr P1 WF *{4} 2", "R1 resverr 2 WF *{4}; R2 resverr 2 WF *{4}", ""},
	{"RFC2209/rerr/wf-other-previous-hop", "path S1; resv c R1 WF *{4}", "resverr P2 WF *{4} 2", "", ""},
	{"RFC2209/rerr/wf-scope-per-branch", "path S2; path S4; resv c R1 WF *{4}", "resverr P2 WF *{4} [S2] 2", "R1 resverr 2 WF *{4} [S2]", ""},
	{"RFC2209/rerr/wf-scope-of-nobody", "path S2; path S4; resv c R1 WF *{4}", "resverr P2 WF *{4} [S1] 2", "", ""},
	{"RFC2209/rerr/se-with-the-filters-of-the-state", senders + "; resv c R1 SE S1,S2{4}; resv d R2 SE S2,S3{3}", "resverr P2 SE S2,S3{4} 2", "R1 resverr 2 SE S2{4}; R2 resverr 2 SE S2,S3{4}", ""},
	{"RFC2209/rerr/se-nothing-in-common", senders + "; resv c R1 SE S1{4}", "resverr P2 SE S2{4} 2", "", ""},
	{"RFC2209/rerr/ff-branches", "path S1; resv c R1 FF S1{4}; resv d R2 FF S1{3}", "resverr P1 FF S1{4} 2", "R1 resverr 2 FF S1{4}; R2 resverr 2 FF S1{4}", ""},
	{"RFC2209/rerr/style-differs", "path S1; resv c R1 FF S1{4}", "resverr P1 WF *{4} 2", "", ""},
	{"RFC2209/rerr/without-reservation", "path S1", "resverr P1 FF S1{4} 2", "", ""},
	// Blockade: figure 12 and rules 1 to 5.
	{"RFC2205/3.5/figure12", "path S1; path S2; resv c R1 WF *{4}; resv d R2 WF *{2}", "resverr P1 WF *{4} [S1] 1", "R1 resverr 1 WF *{4} [S1]; R2 resverr 1 WF *{4} [S1]; P1 resv WF *{2} [S1]", ""},
	{"RFC2205/3.5/figure12-other-hop-keeps-the-larger", "path S1; path S2; resv c R1 WF *{4}; resv d R2 WF *{2}; resverr P1 WF *{4} [S1] 1", "resv d R2 WF *{3}", "P1 resv WF *{3} [S1]", "-"},
	{"RFC2205/3.5/smaller-arrives-later", "path S1; resv c R1 WF *{4}; resverr P1 WF *{4} 1", "resv d R2 WF *{2}", "P1 resv WF *{2}", "-"},
	{"RFC2205/3.5/ff-per-sender", "path S2; path S3; resv c R1 FF S2{4},S3{4}; resv d R2 FF S2{2},S3{2}", "resverr P2 FF S2{4} 1", "R1 resverr 1 FF S2{4}; R2 resverr 1 FF S2{4}; P2 resv FF S2{2}", ""},
	{"RFC2205/3.5/se-per-sender", "path S1; path S2; resv c R1 SE S1,S2{4}; resv d R2 SE S1,S2{2}", "resverr P1 SE S1{4} 1", "R1 resverr 1 SE S1{4}; R2 resverr 1 SE S1{4}; P1 resv SE S1{2}", ""},
	{"RFC2205/3.5/wf-in-place-only-the-guilty", "path S1; resv c R1 WF *{4}; resv d R2 WF *{2}", "resverr P1 WF *{4} 1i", "R1 resverr 1i WF *{4}; P1 resv WF *{2}", ""},
	{"RFC2205/3.5/se-in-place-only-the-guilty", "path S1; resv c R1 SE S1{4}; resv d R2 SE S1{2}", "resverr P1 SE S1{4} 1i", "R1 resverr 1i SE S1{4}; P1 resv SE S1{2}", ""},
	{"RFC2205/3.5/all-blockaded-nothing-at-once", "path S1; resv c R1 WF *{4}; resv d R2 WF *{4}", "resverr P1 WF *{3} 1", "R1 resverr 1 WF *{3}; R2 resverr 1 WF *{3}", ""},
	{"RFC2205/3.5/other-codes-make-no-blockade", "path S1; resv c R1 WF *{4}; resv d R2 WF *{2}", "resverr P1 WF *{4} 2", "R1 resverr 2 WF *{4}; R2 resverr 2 WF *{4}", ""},
	{"RFC2205/3.5/new-sender-of-a-blockaded-hop", "path S2; resv c R1 WF *{4}; resv d R2 WF *{2}; resverr P2 WF *{4} 1", "path S3", "c path S3; d path S3", "-"},
	{"RFC2205/3.5/blockade-goes-with-the-hop", "path S1; resv c R1 WF *{4}; resv d R2 WF *{2}; resverr P1 WF *{4} 1; home S1 a P4", "path S1", "c path S1; d path S1; P1 resv WF *{4} [S1]; P4 resv WF *{4} [S1]", "-"},
	// Confirmation.
	{"RFC2205/3.1.4/confirm-of-the-first-goes-on", "path S1; path S2", "resv c R1 WF *{4} confirm", "P1 resv WF *{4} [S1] confirm; P2 resv WF *{4} [S2] confirm", "-"},
	{"RFC2205/3.1.4/confirm-of-the-largest-goes-on", "path S1; resv d R2 SE S1{2}", "resv c R1 SE S1{4} confirm", "P1 resv SE S1{4} confirm", "-"},
	{"RFC2205/3.1.4/confirm-of-an-equal-is-answered", "path S1; resv d R2 SE S1{4}", "resv c R1 SE S1{4} confirm", "R1 resvconf SE S1{4} confirm", "-"},
	{"RFC2205/3.1.4/confirm-of-a-smaller-is-answered", "path S1; resv d R2 WF *{4}", "resv c R1 WF *{2} confirm", "R1 resvconf WF *{2} confirm", "-"},
	{"RFC2205/3.1.4/confirm-of-a-blockaded-is-dropped", "path S1; resv d R2 WF *{2}; resverr P1 WF *{4} 1", "resv c R1 WF *{5} confirm", "", "-"},
	{"RFC2209/confirm/local-sender-answers", "add S1", "resv c R1 WF *{4} confirm", "R1 resvconf WF *{4} confirm", "-"},
	{"RFC2209/confirm/local-and-other-senders", "add S1; path S2", "resv c R1 WF *{4} confirm", "R1 resvconf WF *{4} confirm; P2 resv WF *{4} confirm", "-"},
	{"RFC2205/3.1.9/forwarded-wf", "path S1; resv c R1 WF *{4}", "resvconf WF *{4}", "R1 resvconf WF *{4} confirm", "-"},
	{"RFC2205/3.1.9/forwarded-se", "path S1; resv c R1 SE S1{4}", "resvconf SE S1{4}", "R1 resvconf SE S1{4} confirm", "-"},
	// PathErr.
	{"RFC2205/3.1.7/to-the-senders-hop", senders, "patherr c S2 2", "P2 patherr 2 S2", ""},
	{"RFC2205/3.1.7/unknown-sender", senders, "patherr c S4 2", "", ""},
	{"RFC2205/3.1.7/local-sender", "add S1", "patherr c S1 2", "", ""},
	{"RFC2205/3.1.7/state-stays", "path S1; resv c R1 WF *{4}; patherr c S1 2", "resv c R1 WF *{5}", "P1 resv WF *{5}", "-"},
}

func TestConformanceErrors(t *testing.T) {
	for i := range errorCases {
		errorCases[i].check(t)
	}
}

// Multicast routing and the proxies.
var multicastCases = []conformance{
	{"RFC2205/3.9/path-to-all-branches", "", "path S1", "c path S1; d path S1", ""},
	{"RFC2205/3.9/path-to-members-only", "members d", "path S1", "d path S1", ""},
	{"RFC2205/3.9/no-members-no-path", "members", "path S1", "", ""},
	{"RFC2205/3.3/never-back-out", "members a c", "path S1", "c path S1", ""},
	{"RFC2205/3.9/path-where-it-is-not-expected", "", "path S1 at b", "", ""},
	{"RFC2205/3.9/stray-path-changes-nothing", "path S1; resv c R1 FF S1{4}", "path S1{3} at b", "", ""},
	{"RFC2205/3.9/right-path-after-a-stray-one", "path S1 at b", "path S1", "c path S1; d path S1", ""},
	{"RFC2205/3.9/routing-moves-the-source", "path S1; resv c R1 FF S1{4}; home S1 b P2", "path S1", "c path S1; d path S1; P2 resv FF S1{4}", ""},
	{"RFC2205/3.1.5/multicast-pathtear", "path S1", "pathtear S1", "c pathtear S1; d pathtear S1", ""},
	{"RFC2205/3.1.5/multicast-pathtear-at-another-interface", "path S1", "pathtear S1 b", "", ""},
	{"RFC2205/3.6/branch-grows", "members c; path S1; members c d", "reroute", "c path S1; d path S1", ""},
	{"RFC2205/3.6/branch-pruned-ff", "path S1; resv c R1 FF S1{4}; resv d R2 FF S1{3}; members d", "reroute", "d path S1", "release; d S1{3}"},
	{"RFC2205/3.6/branch-pruned-wf", "path S1; resv c R1 WF *{4}; resv d R2 WF *{3}; members d", "reroute", "d path S1", "release; d S1{3}"},
	{"RFC2205/3.6/branch-pruned-se", "path S1; resv c R1 SE S1{4}; members d", "reroute", "d path S1", "release"},
	{"RFC2205/3.1.4/resv-from-a-pruned-branch", "members c; path S1", "resv d R2 FF S1{4}", "R2 resverr 4 FF S1{4}", ""},
	{"RFC2205/3.1.3/two-senders-of-a-group", "path S1", "path S4", "c path S4; d path S4", ""},
	{"RFC5945/sender-proxy/group", "", "add S1", "c path S1; d path S1", ""},
	{"RFC5945/sender-proxy/group-ends", "add S1; resv c R1 WF *{4}", "remove S1", "c pathtear S1; d pathtear S1", "release"},
	{"RFC5945/sender-proxy/wf-from-two-branches", "add S1; resv c R1 WF *{4}", "resv d R2 WF *{3}", "", "d S1{3} E B"},
	{"RFC5945/receiver-proxy/ff-is-the-default", "unaware; members c; proxy default", "path S1{4}", "P1 resv FF S1{4}", "c S1{4}"},
	{"RFC5945/receiver-proxy/wf", "unaware; members c; proxy WF; path S1{4}", "path S2{3}", "P2 resv WF *{4} [S2]; P1 resv WF *{4} [S1]", "c S1,S2{4} M"},
	{"RFC5945/receiver-proxy/se", "unaware; members c; proxy SE; path S1{4}", "path S2{3}", "P2 resv SE S2{4}", "c S1,S2{4} M"},
	{"RFC5945/receiver-proxy/all-branches", "unaware; proxy FF", "path S1{4}", "P1 resv FF S1{4}", "c S1{4}; d S1{4}"},
	{"RFC5945/receiver-proxy/auto-one-sender", "unaware; members c; proxy auto", "path S1{4}", "P1 resv WF *{4}", "c S1{4}"},
	{"RFC5945/receiver-proxy/auto-several-senders", "unaware; members c; proxy auto; path S1{4}", "path S2{3}", "P1 resvtear WF; P1 resv FF S1{4}; P1 resv FF S1{4}; P2 resv FF S2{3}", "c S1{4}; c S2{3}"},
	{"RFC5945/receiver-proxy/auto-older-sender-is-kept", "unaware; members c; proxy auto; path S2{4}", "path S1{3}", "P2 resvtear WF; P2 resv FF S2{4}; P2 resv FF S2{4}; P1 resv FF S1{3}", "c S2{4}; c S1{3}"},
	{"RFC5945/receiver-proxy/auto-stays-for-one", "unaware; members c; proxy auto; path S1{4}; path S2{3}; pathtear S2", "path S1{4}", "", ""},
	{"RFC5945/receiver-proxy/auto-begins-anew", "unaware; members c; proxy auto; path S1{4}; path S2{3}; pathtear S2; pathtear S1", "path S1{4}", "P1 resv WF *{4}", "c S1{4}"},
	{"RFC5945/receiver-proxy/wf-sender-gone", "unaware; members c; proxy WF; path S1{4}; path S2{3}", "pathtear S1", "", "c S2{3}"},
	{"RFC5945/receiver-proxy/se-sender-gone", "unaware; members c; proxy SE; path S1{4}; path S2{3}", "pathtear S1", "", "c S2{3}"},
	{"RFC5945/receiver-proxy/wf-policy-ends", "unaware; members c; proxy WF; path S1{4}; noproxy", "path S1{4}", "P1 patherr 2 S1; P1 resvtear WF", "release"},
	{"RFC5946/3.1/wf-refused-tells-all-senders", "unaware; members c; proxy WF; path S1{4}; path S2{4}; limit 4", "path S1{6}", "P1 patherr 1 S1; P2 patherr 1 S2", "c S1,S2{6} M; c S1,S2{4} M"},
	{"RFC5946/3.1/wf-resverr-tells-the-senders-of-the-hop", "unaware; members c; proxy WF; path S1{4}; path S2{4}", "resverr P1 WF *{4} 1", "P1 patherr 1 S1", ""},
	{"RFC5946/3.1/se-resverr-tells-its-senders", "unaware; members c; proxy SE; path S1{4}; path S2{4}", "resverr P2 SE S2{4} 2", "P2 patherr 2 S2", ""},
	{"RFC5946/4.1/path-goes-on-beside-the-proxy", "discover; members c; proxy WF", "path S1{4}", "c path S1; P1 resv WF *{4}", "c S1{4}"},
	{"RFC5946/4.1/path-goes-on-to-all-branches", "discover; proxy WF", "path S1{4}", "c path S1; d path S1; P1 resv WF *{4}", "c S1{4}; d S1{4}"},
	{"RFC5946/4.1/disabled", "unaware; members c; proxy WF", "path S1{4}", "P1 resv WF *{4}", "c S1{4}"},
	{"RFC5946/4.1/no-policy-is-no-obstacle", "discover; members c", "path S1{4}", "c path S1", ""},
	{"RFC5946/4.1/host-answers-without-policy", "discover; members c; path S1{4}", "resv c R1 WF *{4}", "P1 resv WF *{4}", "c S1{4}"},
	{"RFC5946/4.1/pathtear-goes-on", "discover; members c; proxy WF; path S1{4}", "pathtear S1", "c pathtear S1", "release"},
	{"RFC5946/4.1/one-branch-answers", "discover; proxy WF; path S1{4}", "resv d R2 WF *{4}", "", ""},
	{"RFC5946/4.1/resv-of-the-first-host-is-obeyed", "discover; members c; proxy WF; path S1{4}; resv c R1 WF *{3}", "path S1{4}", "", ""},
	{"RFC5946/4.1/host-tears", "discover; members c; proxy WF; path S1{4}; resv c R1 WF *{4}", "resvtear c R1 WF", "", ""},
	{"RFC5946/4.1/host-tears-less-than-the-proxy-wants", "discover; members c; proxy WF; path S1{4}; resv c R1 WF *{3}", "resvtear c R1 WF", "P1 resv WF *{4}", "c S1{4}"},
	{"RFC5946/4.1/one-of-two-hosts-tears", "discover; members c; proxy WF; path S1{4}; resv c R1 WF *{4}; resv c R4 WF *{3}", "resvtear c R1 WF", "P1 resv WF *{3}", "c S1{3}"},
	{"RFC5946/4.1/both-hosts-tear", "discover; members c; proxy WF; path S1{4}; resv c R1 WF *{4}; resv c R4 WF *{4}; resvtear c R1 WF", "resvtear c R4 WF", "", ""},
	{"RFC5946/4.1/host-tears-without-policy", "discover; members c; path S1{4}; resv c R1 WF *{4}", "resvtear c R1 WF", "P1 resvtear WF", "release"},
	{"RFC5945/4.1.1.1/host-answers-wf", "discover; members c; proxy WF; path S1{4}", "resv c R1 WF *{4}", "", ""},
	{"RFC5945/4.1.1.1/host-answers-with-less", "discover; members c; proxy WF; path S1{4}", "resv c R1 WF *{3}", "P1 resv WF *{3}", "c S1{3}"},
	{"RFC5945/4.1.1.1/host-answers-se-for-wf", "discover; members c; proxy WF; path S1{4}; path S2{4}", "resv c R1 SE S1,S2{4}", "P1 resvtear WF; P2 resvtear WF; P1 resv SE S1{4}; P2 resv SE S2{4}", ""},
	{"RFC5945/4.1.1.1/host-answers-se-for-one", "discover; members c; proxy SE; path S1{4}; path S2{4}", "resv c R1 SE S1{4}", "P2 resvtear SE S2", "c S1{4}"},
	{"RFC5945/4.1.1.1/host-tears-se", "discover; members c; proxy SE; path S1{4}; path S2{4}; resv c R1 SE S1{4}", "resvtear c R1 SE S1", "P2 resv SE S2{4}", "c S1,S2{4} M"},
	{"RFC5945/4.1.1.1/host-answers-ff-for-one", "discover; members c; proxy FF; path S1{4}; path S2{4}", "resv c R1 FF S1{4}", "", ""},
	{"RFC5945/4.1.1.1/host-tears-ff", "discover; members c; proxy FF; path S1{4}; path S2{4}; resv c R1 FF S1{4}", "resvtear c R1 FF S1", "P1 resv FF S1{4}", ""},
	{"RFC5945/4.1.1.1/host-answers-ff-for-wf", "discover; members c; proxy WF; path S1{4}", "resv c R1 FF S1{3}", "P1 resvtear WF; P1 resv FF S1{3}; P1 resv FF S1{4}", "c S1{3}"},
	{"RFC5945/4.1.1.1/host-answers-wf-for-ff", "discover; members c; proxy FF; path S1{4}", "resv c R1 WF *{4}", "P1 resvtear FF S1; P1 resv WF *{4}", "c S1{4}"},
	{"RFC5945/4.1.1.1/host-is-refused", "discover; members c; proxy WF; path S1{9}; path S1{4}; limit 4; path S1{9}", "resv c R1 WF *{8}", "R1 resverr 1i WF *{8}", "c S1{8}"},
	{"RFC5945/receiver-proxy/confirmed-once", "unaware; members c; proxy WF confirm", "path S1{4}", "P1 resv WF *{4} confirm", "c S1{4}"},
}

func TestConformanceMulticast(t *testing.T) {
	for i := range multicastCases {
		multicastCases[i].check(t)
	}
}
