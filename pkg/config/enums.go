package config

import "github.com/qosproxy/qosproxy/pkg/dscp"

// Mode is the way the box stands in the path.
type Mode uint8

// The ways to stand in the path.
const (
	ModeRouter Mode = iota // forwards between subnets
	ModeBridge             // forwards frames, and has no address on them
)

// String returns the config file's word.
func (m Mode) String() string { return word(modeWords, m) }

// Hop is what the box is to its RSVP neighbours.
type Hop uint8

// What neighbours see.
const (
	HopRouter      Hop = iota // a hop with an address of its own
	HopTransparent            // the host that it speaks for
)

// String returns the config file's word.
func (h Hop) String() string { return word(hopWords, h) }

// OnStop says what SIGTERM leaves in the kernel.
type OnStop uint8

// What SIGTERM leaves in the kernel.
const (
	OnStopClean OnStop = iota // nothing
	OnStopKeep                // the treatment, for an upgrade
)

// String returns the config file's word.
func (o OnStop) String() string { return word(onStopWords, o) }

// Zone is the side of the box on which an interface is.
type Zone uint8

// The two sides of the box.
const (
	ZoneHosts   Zone = iota // QoS-unaware hosts are here
	ZoneNetwork             // towards the rest
)

// String returns the config file's word.
func (z Zone) String() string { return word(zoneWords, z) }

// Trust says what becomes of the DSCP of packets that arrive on an interface
// and that no policy marks.
type Trust uint8

// What becomes of arriving marks.
const (
	TrustNone    Trust = iota // reset to default
	TrustDSCP                 // kept
	TrustPoliced              // kept within the contract, else reset
)

// String returns the config file's word.
func (t Trust) String() string { return word(trustWords, t) }

// DClassOver says what the DSCP wins over that DCLASS in RESV names (RFC 2996).
type DClassOver uint8

// What DCLASS wins over.
const (
	DClassMapping DClassOver = iota // what a service is mapped to
	DClassMark                      // that, and the mark of a policy
	DClassIgnore                    // nothing
)

// String returns the config file's word.
func (o DClassOver) String() string { return word(dclassOverWords, o) }

// DClass says what an interface's box tells upstream of how the packets are to be
// marked that leave by it.
type DClass uint8

// What is told.
const (
	DClassPass DClass = iota // what those behind the interface say
	DClassSend               // what this box marks them with
	DClassDrop               // nothing, and what those behind it say is not believed
)

// String returns the config file's word.
func (c DClass) String() string { return word(dclassWords, c) }

// Window says which right edge a cheated source is shown.
type Window uint8

// Where the window of a fake ACK comes from.
const (
	WindowAuto    Window = iota // reliable: predict, realtime: honour
	WindowHonour                // the receiver's last one
	WindowPredict               // the receiver is assumed to read at r
)

// String returns the config file's word.
func (w Window) String() string { return word(windowWords, w) }

// ECN is what becomes of congestion marks in cheated connections.
type ECN uint8

// The treatments of explicit congestion notification.
const (
	ECNEcho  ECN = iota // a mark seen on the way is echoed to the source
	ECNStrip            // it is not negotiated
)

// String returns the config file's word.
func (e ECN) String() string { return word(ecnWords, e) }

// EFModel is how traffic of the EF PHB that was admitted and such that was not share
// a link (RFC 5865 section 2.1). Either has a policer.
type EFModel uint8

// The two models.
const (
	EFPolicer  EFModel = iota // both wait in one priority queue
	EFPriority                // admitted traffic has a queue of higher priority
)

// String returns the config file's word.
func (m EFModel) String() string { return word(efModelWords, m) }

// Role is the side or sides for which the box speaks RSVP.
type Role uint8

// For which host the box speaks.
const (
	RoleBoth Role = iota
	RoleSender
	RoleReceiver
)

// String returns the config file's word.
func (r Role) String() string { return word(roleWords, r) }

// Service is the IntServ service that is asked for.
type Service uint8

// The services.
const (
	ServiceControlledLoad Service = iota // RFC 2211
	ServiceGuaranteed                    // RFC 2212
)

// String returns the config file's word.
func (s Service) String() string { return word(serviceWords, s) }

// Style is the reservation style of RFC 2205 1.3.
type Style uint8

// Reservation styles.
const (
	StyleAuto Style = iota // wildcard for one sender, fixed filter for several
	StyleFF                // fixed filter: each sender has its own
	StyleWF                // wildcard: all senders share one
	StyleSE                // shared explicit: the senders that are known share one
)

// String returns the config file's word.
func (s Style) String() string { return word(styleWords, s) }

// TCPMode is the kind of TCP cheating.
type TCPMode uint8

// The TCP modes.
const (
	TCPNone     TCPMode = iota // left alone
	TCPRealtime                // acknowledged at once, nothing buffered
	TCPReliable                // acknowledged at once, held until the receiver has it
	TCPPace                    // the receiver's own ACKs clock the source
)

// String returns the config file's word.
func (m TCPMode) String() string { return word(tcpWords, m) }

// Excess says what becomes of packets above a TSpec or a contract: they are
// dropped, or best effort with a DSCP, which is the value.
type Excess uint8

// What becomes of packets above the TSpec.
const (
	ExcessBestEffort Excess = dscp.Default
	ExcessDrop       Excess = 0xff
)

// DSCP is that of what exceeds and is not dropped.
func (e Excess) DSCP() uint8 {
	if e == ExcessDrop {
		return dscp.Default
	}
	return uint8(e)
}

// String returns the config file's word.
func (e Excess) String() string {
	if e == ExcessBestEffort || e == ExcessDrop {
		return word(excessWords, e)
	}
	return dscp.Name(uint8(e))
}

// Classify says by what packets that leave by an interface are told apart.
type Classify uint8

// By what packets are told apart.
const (
	ClassifyFlow Classify = iota // reserved flows by themselves, others by their DSCP
	ClassifyDSCP                 // all by their DSCP
)

// String returns the config file's word.
func (c Classify) String() string { return word(classifyWords, c) }

// Handshake says which neighbours prove that they are alive before their first
// message is accepted (RFC 2747 section 4.3).
type Handshake uint8

// Which neighbours prove themselves.
const (
	HandshakeRequired Handshake = iota // all; the others are not listened to
	HandshakeWilling                   // those that say that they can
	HandshakeOff                       // none
)

// String returns the config file's word.
func (h Handshake) String() string { return word(handshakeWords, h) }

// Heterogeneous is what becomes of a multicast tree whose branches do not have the
// same reservation (draft-ietf-issll-diffserv-rsvp section 7.1).
type Heterogeneous uint8

// The default is to keep.
const (
	HeterogeneousKeep   Heterogeneous = iota // packets keep their mark on the other branches, which are counted
	HeterogeneousDemote                      // they lose it there
	HeterogeneousReject                      // branches that ask for something else than others are refused
)

// String returns the config file's word.
func (h Heterogeneous) String() string { return word(heterogeneousWords, h) }

// choice is one word of an enumeration.
type choice[T any] struct {
	word  string
	value T
}

var (
	modeWords       = []choice[Mode]{{word: "router"}, {word: "bridge", value: ModeBridge}}
	onStopWords     = []choice[OnStop]{{word: "clean"}, {word: "keep", value: OnStopKeep}}
	zoneWords       = []choice[Zone]{{word: "hosts"}, {word: "network", value: ZoneNetwork}}
	trustWords      = []choice[Trust]{{word: "none"}, {word: "dscp", value: TrustDSCP}, {word: "policed", value: TrustPoliced}}
	dclassWords     = []choice[DClass]{{word: "pass"}, {word: "send", value: DClassSend}, {word: "drop", value: DClassDrop}}
	dclassOverWords = []choice[DClassOver]{{word: "mapping"}, {word: "mark", value: DClassMark}, {word: "ignore", value: DClassIgnore}}
	efModelWords    = []choice[EFModel]{{word: "policer"}, {word: "priority", value: EFPriority}}
	ecnWords        = []choice[ECN]{{word: "echo"}, {word: "strip", value: ECNStrip}}
	windowWords     = []choice[Window]{
		{word: "honour", value: WindowHonour}, {word: "predict", value: WindowPredict}, {word: "auto"},
	}
	roleWords = []choice[Role]{
		{word: "sender", value: RoleSender}, {word: "receiver", value: RoleReceiver}, {word: "both"},
	}
	serviceWords = []choice[Service]{{word: "controlled-load"}, {word: "guaranteed", value: ServiceGuaranteed}}
	styleWords   = []choice[Style]{
		{word: "auto"}, {word: "ff", value: StyleFF}, {word: "wf", value: StyleWF}, {word: "se", value: StyleSE},
	}
	tcpWords = []choice[TCPMode]{
		{word: "none"},
		{word: "pace", value: TCPPace},
		{word: "realtime", value: TCPRealtime},
		{word: "reliable", value: TCPReliable},
	}
	heterogeneousWords = []choice[Heterogeneous]{
		{word: "demote", value: HeterogeneousDemote}, {word: "keep"}, {word: "reject", value: HeterogeneousReject},
	}
	excessWords    = []choice[Excess]{{word: "best-effort"}, {word: "drop", value: ExcessDrop}}
	classifyWords  = []choice[Classify]{{word: "flow"}, {word: "dscp", value: ClassifyDSCP}}
	perWords       = []choice[bool]{{word: "all"}, {word: "flow", value: true}}
	boolWords      = []choice[bool]{{word: "true", value: true}, {word: "false"}}
	hopWords       = []choice[Hop]{{word: "router"}, {word: "transparent", value: HopTransparent}}
	handshakeWords = []choice[Handshake]{
		{word: "required"}, {word: "willing", value: HandshakeWilling}, {word: "off", value: HandshakeOff},
	}
	algorithmWords = []choice[string]{
		{word: "hmac-md5", value: "hmac-md5"}, {word: "hmac-sha1", value: "hmac-sha1"}, {word: "hmac-sha256", value: "hmac-sha256"},
	}
	levelWords = []choice[string]{
		{word: "debug", value: "debug"},
		{word: "info", value: "info"},
		{word: "warn", value: "warn"},
		{word: "error", value: "error"},
	}
	formatWords = []choice[string]{
		{word: "auto", value: "auto"}, {word: "text", value: "text"}, {word: "json", value: "json"},
	}
)

func word[T comparable](list []choice[T], v T) string {
	for _, c := range list {
		if c.value == v {
			return c.word
		}
	}
	return "?"
}
