package console

// Stats is every counter of the daemon. Counters only grow while it runs.
type Stats struct {
	Queues     []QueueStats    `json:"queues"`
	RSVP       RSVPStats       `json:"rsvp"`
	Inject     InjectStats     `json:"inject"`
	Shaper     ShaperStats     `json:"shaper"`
	Cheat      CheatStats      `json:"cheat"`
	Classify   ClassifyStats   `json:"classify"`
	Admission  AdmissionStats  `json:"admission"`
	Accounting AccountingStats `json:"accounting"`
	Events     EventStats      `json:"events"`
	Watchdog   WatchdogStats   `json:"watchdog"`
}

// QueueStats is one NFQUEUE queue.
type QueueStats struct {
	Queue         uint16       `json:"queue"`
	Role          string       `json:"role"` // control, first, cheat
	Packets       uint64       `json:"packets"`
	Bytes         uint64       `json:"bytes"`
	Batches       uint64       `json:"batches"`
	Verdicts      VerdictStats `json:"verdicts"`
	VerdictErrors uint64       `json:"verdict_errors"`
	ParseErrors   uint64       `json:"parse_errors"` // packets that were not what they said
	Truncated     uint64       `json:"truncated"`    // packets longer than the copy range
	ENOBUFS       uint64       `json:"enobufs"`      // times the socket overflowed
	Waiting       uint64       `json:"waiting"`      // packets in the kernel's queue now
	DropsKernel   uint64       `json:"drops_kernel"` // packets: queue full
	DropsUser     uint64       `json:"drops_user"`   // packets: socket full
	Overloaded    bool         `json:"overloaded"`   // of a cheat queue: connections are let go
}

// VerdictStats counts packets by verdict.
type VerdictStats struct {
	Accept   uint64 `json:"accept"`
	Modified uint64 `json:"modified"` // accepted with a changed payload
	Drop     uint64 `json:"drop"`
	Requeue  uint64 `json:"requeue"` // handed to another queue
}

// RSVPStats counts RSVP messages.
type RSVPStats struct {
	Received    RSVPMessages    `json:"received"`
	Sent        RSVPMessages    `json:"sent"`
	Errors      RSVPErrors      `json:"errors"`
	Timeouts    uint64          `json:"timeouts"` // states that were not refreshed in time
	Diagnostics DiagnosticStats `json:"diagnostics"`
	Multicast   MulticastStats  `json:"multicast"`
	// Transparent is null with hop: router.
	Transparent *TransparentStats `json:"transparent"`
	// Tunnels is null where no interface is a tunnel.
	Tunnels *TunnelStats `json:"tunnels"`
	// Aggregation is null where no interface leads into an aggregation region.
	Aggregation *AggregationStats `json:"aggregation"`
	// Integrity is null where no interface has keys.
	Integrity *IntegrityStats `json:"integrity"`
}

// TunnelStats counts reservations that cross tunnels (RFC 2746).
type TunnelStats struct {
	Tunnels  int    `json:"tunnels"`
	Carried  int    `json:"carried"`   // reservations that the tunnel sessions are made of now
	Held     uint64 `json:"held"`      // that waited for a tunnel session to grow
	Granted  uint64 `json:"granted"`   // of these
	Refused  uint64 `json:"refused"`   // of these
	TimedOut uint64 `json:"timed_out"` // of the refused: nothing was heard
	Failed   uint64 `json:"failed"`    // errors of tunnel sessions, told to receivers
	Full     uint64 `json:"full"`      // over the limit of 10,000 for a tunnel
	Unbound  uint64 `json:"unbound"`   // PATH messages out of a tunnel without tunnel session
}

// AggregationStats counts aggregates and what rides in them (RFC 3175).
type AggregationStats struct {
	Begin     int    `json:"begin"`     // aggregates that begin here now
	End       int    `json:"end"`       // ... and that end here
	Carried   int    `json:"carried"`   // reservations in those that begin here
	Riding    int    `json:"riding"`    // ... and in those that end here
	Changes   uint64 `json:"changes"`   // of the size of those that end here
	Held      uint64 `json:"held"`      // reservations that waited for an aggregate
	Granted   uint64 `json:"granted"`   // of these
	Refused   uint64 `json:"refused"`   // of these
	TimedOut  uint64 `json:"timed_out"` // of the refused: the aggregate did not grow in time
	Withdrawn uint64 `json:"withdrawn"` // reservations that lost their aggregate, where it begins
	Failed    uint64 `json:"failed"`    // ... and where it ends
	Needed    uint64 `json:"needed"`    // NEW-AGGREGATE-NEEDED, sent
	Asked     uint64 `json:"asked"`     // NEW-AGGREGATE-NEEDED, received
	Strange   uint64 `json:"strange"`   // of those: of no use
	Unknown   uint64 `json:"unknown"`   // PATH messages that went on without the ADSPEC of the region
	Full      uint64 `json:"full"`      // aggregates, senders or reservations over a limit
}

// MulticastStats counts what was not sent to groups, and why.
type MulticastStats struct {
	Scoped     uint64 `json:"scoped"`      // messages: the group's data do not pass the interface's threshold
	RoutesFull uint64 `json:"routes_full"` // entries of the kernel's forwarding cache that found no room here
}

// TransparentStats counts what a hop that nobody sees takes part in, and lets go by.
type TransparentStats struct {
	Names           int    `json:"names"`            // that neighbours know the box by now, each in a session
	NamesFull       uint64 `json:"names_full"`       // that found no room: what is addressed to them goes by
	Foreign         uint64 `json:"foreign"`          // messages that the box does not understand
	Signed          uint64 `json:"signed"`           // messages that are signed
	Gathered        uint64 `json:"gathered"`         // messages that were put together of fragments
	Fragments       uint64 `json:"fragments"`        // that went on as they came: no message, or none of the box's
	TearsRepeated   uint64 `json:"tears_repeated"`   // messages
	TearsUnrepeated uint64 `json:"tears_unrepeated"` // tears for which there was no room
}

// DiagnosticStats counts the messages of RFC 2745.
type DiagnosticStats struct {
	Requests  uint64 `json:"requests"`  // received
	Replies   uint64 `json:"replies"`   // received, of others, to be forwarded
	Forwarded uint64 `json:"forwarded"` // requests sent towards the sender
	Passed    uint64 `json:"passed"`    // requests handed on towards the last hop
	Answered  uint64 `json:"answered"`  // replies sent, other boxes' included
	Fragments uint64 `json:"fragments"` // of these: parts
	NoPath    uint64 `json:"no_path"`   // requests about sessions that are not known here
	RoutesCut uint64 `json:"routes_cut"`
	Loops     uint64 `json:"loops"` // requests that came here twice
}

// IntegrityStats counts signed messages, and those that authentication refused
// (RFC 2747).
type IntegrityStats struct {
	Signed        uint64            `json:"signed"`
	Accepted      uint64            `json:"accepted"`
	Refused       map[string]uint64 `json:"refused"` // by reason
	Associations  int               `json:"associations"`
	Challenges    uint64            `json:"challenges"` // sent
	Responses     uint64            `json:"responses"`  // sent
	Handshakes    uint64            `json:"handshakes"` // neighbours that proved themselves
	GivenUp       uint64            `json:"given_up"`   // challenges that nobody answered
	StaleSigned   uint64            `json:"stale_signed"`
	StaleAccepted uint64            `json:"stale_accepted"`
}

// RSVPMessages counts the messages of RFC 2205 by type.
type RSVPMessages struct {
	Path     uint64 `json:"path"`
	Resv     uint64 `json:"resv"`
	PathErr  uint64 `json:"path_err"`
	ResvErr  uint64 `json:"resv_err"`
	PathTear uint64 `json:"path_tear"`
	ResvTear uint64 `json:"resv_tear"`
	ResvConf uint64 `json:"resv_conf"`
	Other    uint64 `json:"other"`
}

// RSVPErrors counts messages that were not taken, by reason.
type RSVPErrors struct {
	Malformed   uint64 `json:"malformed"`   // length, version or object structure
	Checksum    uint64 `json:"checksum"`    // wrong RSVP checksum
	Unknown     uint64 `json:"unknown"`     // unknown message or refused object class (RFC 2205 3.10)
	Unexpected  uint64 `json:"unexpected"`  // no state that it fits
	Limited     uint64 `json:"limited"`     // above a neighbour's share of limits.rsvp_rate
	Full        uint64 `json:"full"`        // limits.sessions, limits.neighbors or a neighbour's share of them reached
	SendFailed  uint64 `json:"send_failed"` // the kernel refused it
	Unreachable uint64 `json:"unreachable"` // no route
	// Refused are messages received that were not taken, by kind: the kinds of
	// malformed ones, the reasons why well-formed ones are out of place, and the
	// limits that were reached.
	Refused map[string]uint64 `json:"refused"`
}

// InjectStats counts the packets that the box made itself.
type InjectStats struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Errors  uint64 `json:"errors"` // not sent, for whatever reason
	// Of these:
	TooLong   uint64 `json:"too_long"`   // for the path's MTU
	NoBuffers uint64 `json:"no_buffers"` // dropped by the kernel, or by the interface's queue
	NoFrame   uint64 `json:"no_frame"`   // on a bridge: nothing was seen of the two stations
	NoPort    uint64 `json:"no_port"`    // on a bridge: nor by which port to send it
}

// ShaperStats counts changes of the kernel's state and what the policers saw.
type ShaperStats struct {
	Installs       uint64 `json:"installs"`
	Removes        uint64 `json:"removes"`
	Failures       uint64 `json:"failures"`
	Treatments     int    `json:"treatments"` // flows treated in the kernel now
	ClassesUsed    int    `json:"classes_used"`
	ClassesPool    int    `json:"classes_pool"`
	Owed           int    `json:"owed"` // treatments that the kernel would not change back
	ConformPackets uint64 `json:"conform_packets"`
	ConformBytes   uint64 `json:"conform_bytes"`
	ExceedPackets  uint64 `json:"exceed_packets"`
	ExceedBytes    uint64 `json:"exceed_bytes"`
	DroppedPackets uint64 `json:"dropped_packets"`
	DroppedBytes   uint64 `json:"dropped_bytes"`
}

// CheatStats adds up the TCP engines.
type CheatStats struct {
	Flows         int               `json:"flows"` // cheated now
	Started       uint64            `json:"started"`
	Ended         uint64            `json:"ended"`
	Shed          uint64            `json:"shed"`         // let go because their queue was overloaded
	ShedRefused   uint64            `json:"shed_refused"` // new ones that were not taken for that
	FakeAcks      uint64            `json:"fake_acks"`
	AbsorbedAcks  uint64            `json:"absorbed_acks"`
	AcksThinned   uint64            `json:"acks_thinned"`
	Rewritten     uint64            `json:"rewritten"`
	Retransmits   uint64            `json:"retransmits"`
	Timeouts      uint64            `json:"timeouts"` // retransmission timer
	TailProbes    uint64            `json:"tail_probes"`
	TooBig        uint64            `json:"too_big"`         // ICMP errors that were learnt from
	TooBigRefused uint64            `json:"too_big_refused"` // and those that fit nothing on its way
	Echoes        EchoStats         `json:"echoes"`
	Withdrawn     uint64            `json:"predictions_withdrawn"`
	FilledBytes   uint64            `json:"filled_bytes"`
	FillsAgain    uint64            `json:"fills_again"`
	FillsGivenUp  uint64            `json:"fills_given_up"`
	BufferedBytes uint64            `json:"buffered_bytes"` // held now
	LeftAlone     map[string]uint64 `json:"left_alone"`     // by reason
	Promises      PromiseStats      `json:"promises"`
}

// PromiseStats is about the record of what sources were promised, and about the
// connections that an earlier process has cheated and did not give back.
type PromiseStats struct {
	Recorded   int    `json:"recorded"`   // connections now
	Unrecorded uint64 `json:"unrecorded"` // cheated without, since there is no file
	Full       uint64 `json:"full"`       // not cheated, since the file is full
	Whole      uint64 `json:"whole"`      // of an earlier process: the receiver had everything
	Open       uint64 `json:"open"`       // and may not have had everything
	Healed     uint64 `json:"healed"`     // of these: it has got it
	Reset      uint64 `json:"reset"`      // and these were reset
	Lost       uint64 `json:"lost"`       // that nobody could look after
}

// WatchdogStats is about the process that looks after this one.
type WatchdogStats struct {
	Running  bool   `json:"running"`
	Restarts uint64 `json:"restarts"` // since it had ended
	Missed   uint64 `json:"missed"`   // beats that it could not be given
}

// EchoStats counts what sources were asked by ICMP echo.
type EchoStats struct {
	Sent       uint64 `json:"sent"`
	Answered   uint64 `json:"answered"`
	Unanswered uint64 `json:"unanswered"` // within a second
	Shared     uint64 `json:"shared"`     // asked for, and told by another's answer
	Limited    uint64 `json:"limited"`    // asked for, and not sent because of a limit
	Stray      uint64 `json:"stray"`      // answers to nothing that was asked
	Errors     uint64 `json:"errors"`
}

// ClassifyStats counts first packets.
type ClassifyStats struct {
	Packets  uint64 `json:"packets"`
	Matched  uint64 `json:"matched"`
	Unwanted uint64 `json:"unwanted"` // no policy claims them
	Full     uint64 `json:"full"`     // limits.flows reached
}

// AdmissionStats counts decisions.
type AdmissionStats struct {
	Granted  uint64 `json:"granted"`
	Refused  uint64 `json:"refused"`
	Released uint64 `json:"released"`
	// Preempted are those of the released that made room for others (RFC 3181).
	Preempted uint64 `json:"preempted"`
	// ForeignMarks are code points of DCLASS that reservations may not have.
	ForeignMarks uint64 `json:"foreign_marks"`
	// Shared is null while the ledger is in memory.
	Shared *SharedStats `json:"shared"`
}

// EventStats counts what the clients of the events were told.
type EventStats struct {
	Clients int    `json:"clients"` // now
	Sent    uint64 `json:"sent"`    // to all of them together
	Lost    uint64 `json:"lost"`    // a client's buffer was full
	Refused uint64 `json:"refused"` // clients beyond the limit
}
