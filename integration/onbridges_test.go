package integration

import (
	"strings"
	"testing"
)

// onBridges is the scenarios whose meaning depends on the way of the packets: with
// boxes that are bridges they want the same as with routers. Those that are marked
// run in make test, and all of them in make soak. A flow whose packets are all
// fragmented is not among them (TestFragmentsOfAReservedFlow): a bridge passes
// fragments on as they are, and the box knows whole packets.
var onBridges = []struct {
	name     string
	scenario func(*testing.T)
	always   bool
}{
	{"PassThrough", TestPassThrough, true},
	{"VoiceReserved", TestVoiceReserved, true},
	{"HalfClose", TestHalfClose, true},
	{"ClosedPortIsRefused", TestClosedPortIsRefused, true},
	{"PathMTUShrinks", TestPathMTUShrinksRFC1191, true},
	{"TCPCheated", TestTCPCheated, false},
	{"TCPCheatedIPv6", TestTCPCheatedIPv6, false},
	{"ResetReachesSource", TestResetReachesSource, false},
	{"StalledReceiver", TestStalledReceiver, false},
	{"EchoGivesPRTT", TestEchoGivesPRTTOfAConnectionInTheMiddle, false},
	{"Reload", TestReload, false},
	{"ReloadRemovesPolicy", TestReloadRemovesPolicy, false},
	{"TrustOfHosts", TestTrustOfHosts, false},
	{"PoliciesThatPolice", TestPoliciesThatPolice, false},
	{"ClassifyByDSCP", TestClassifyByDSCP, false},
	{"GuaranteedVoice", TestGuaranteedVoice, false},
	{"ReserveByHandTCP", TestReserveByHandTCP, false},
	{"ReliableUnderLoss", TestReliableUnderLoss, false},
	{"Kill", TestKill, false},
	{"Hang", TestHang, false},
	{"StopLeavesNothing", TestStopLeavesNothing, false},
	{"RestartAdopts", TestRestartAdopts, false},
	{"KeepIsAdopted", TestKeepIsAdopted, false},
	{"StopUnderLoss", TestStopUnderLoss, false},
	{"StopBreaksNoConnection", TestStopBreaksNoConnection, false},
	{"SecondConnection", TestSecondConnectionOfASession, false},
	{"AccountingIsExact", TestAccountingIsExact, false},
	{"ReloadLosesNothing", TestReloadLosesNothing, false},
	{"FillUnderLoss", TestFillUnderLoss, false},
	{"PacedFlowsShare", TestPacedFlowsShareAsTold, false},
	{"StacksMatrix", TestStacksMatrix, false},
	{"StacksTalk", TestStacksTalk, false},
}

// TestOnBridges runs scenarios once more with boxes in bridges that are there from the
// start, so that packets pass whether a box runs or not, as with routers.
func TestOnBridges(t *testing.T) {
	if soak(0, 1) == 0 { // none of those that are marked measures anything
		t.Parallel()
	}
	for _, s := range onBridges {
		if s.always || soak(0, 1) == 1 {
			t.Run(s.name, s.scenario)
		}
	}
}

// formOf is the form of the boxes in newLab.
func formOf(t *testing.T) form {
	if strings.HasPrefix(t.Name(), "TestOnBridges/") {
		return adopted
	}
	return routed
}
