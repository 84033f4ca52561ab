package tcpcheat

import (
	"encoding/binary"
	"errors"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Reasons for which holes are not filled: a byte that the source never sent
// ends such a stream, by a bad checksum of its own or by framing that is lost.
// The receiver is better off waiting for the real one.
var (
	ErrTLS     = errors.New("a filled byte would end TLS")
	ErrSSH     = errors.New("a filled byte would end SSH")
	ErrHTTP2   = errors.New("a filled byte would end HTTP/2")
	ErrSMB     = errors.New("a filled byte would end SMB")
	ErrTLSPort = errors.New("a filled byte would end what its well-known port stands for")
	ErrUnread  = errors.New("no policy wanted its holes filled when it began, so what its stream is was not looked at")
)

// fragilePorts are well-known ports of streams that are encrypted, signed or
// framed such that one wrong byte ends them, whatever their first bytes are.
var fragilePorts = map[uint16]error{
	22:   ErrSSH,
	179:  ErrTLSPort, // BGP
	443:  ErrTLS,
	445:  ErrSMB,
	465:  ErrTLS, // SMTP
	563:  ErrTLS, // NNTP
	636:  ErrTLS, // LDAP
	853:  ErrTLS, // DNS
	989:  ErrTLS, // FTP data
	990:  ErrTLS, // FTP
	992:  ErrTLS, // Telnet
	993:  ErrTLS, // IMAP
	995:  ErrTLS, // POP3
	2083: ErrTLS, // RADIUS
	2376: ErrTLS, // Docker
	3269: ErrTLS, // global catalogue
	3389: ErrTLSPort,
	5061: ErrTLS, // SIP
	5223: ErrTLS, // XMPP
	5349: ErrTLS, // TURN
	5671: ErrTLS, // AMQP
	5986: ErrTLS, // WinRM
	6443: ErrTLS,
	6514: ErrTLS, // syslog
	6697: ErrTLS, // IRC
	8443: ErrTLS,
	8883: ErrTLS, // MQTT
}

// fragilePort tells by the ports of a connection that it must not be filled.
func fragilePort(key packet.FlowKey) error {
	if err := fragilePorts[key.DstPort]; err != nil {
		return err
	}
	return fragilePorts[key.SrcPort]
}

const (
	http2Preface = "PRI * HTTP/2.0\r\n" // RFC 9113 section 3.4
	maxOpening   = 64
)

// fragileStart recognises a stream by its first bytes, in either direction. It
// tells too whether more of them could make a difference.
func fragileStart(b []byte) (why error, more bool) {
	switch {
	case isHello(b):
		return ErrTLS, false
	case begins(b, "SSH-"): // RFC 4253 section 4.2
		return ErrSSH, false
	case begins(b, http2Preface):
		return ErrHTTP2, false
	case isSMB(b):
		return ErrSMB, false
	}
	// Lines before an SSH server's version string (RFC 4253 section 4.2).
	for i, c := range b {
		if c == '\n' && begins(b[i+1:], "SSH-") {
			return ErrSSH, false
		}
	}
	return nil, len(b) < maxOpening
}

func begins(b []byte, s string) bool { return len(b) >= len(s) && string(b[:len(s)]) == s }

// isHello recognises the record of a ClientHello or ServerHello (RFC 8446
// sections 4 and 5.1), wherever in a connection it stands: after STARTTLS and
// its like too. The lengths have to agree, for other data may have anything
// anywhere.
func isHello(b []byte) bool {
	if len(b) < 11 || b[0] != 22 || b[1] != 3 || b[2] > 4 {
		return false
	}
	record := int(binary.BigEndian.Uint16(b[3:]))
	message := int(b[6])<<16 | int(b[7])<<8 | int(b[8])
	// A ServerHello may share its record with others, a long ClientHello may go
	// on in the next record: either length can be the larger one.
	return (b[5] == 1 || b[5] == 2) && record >= 4 && record <= 1<<14 &&
		message >= 38 && message < 1<<17 && b[9] == 3 && b[10] <= 4
}

// isSMB recognises SMB 1 to 3 behind the header of its direct transport.
func isSMB(b []byte) bool {
	return len(b) >= 8 && b[0] == 0 && string(b[5:8]) == "SMB" && b[4] >= 0xfc
}

// opening collects the first bytes of one direction, however they are cut.
type opening struct {
	b    [maxOpening]byte
	n    int
	done bool
}

// look takes the payload at offset off of the stream, and tells whether the
// stream is recognised by now.
func (o *opening) look(off int, data []byte) error {
	if isHello(data) {
		o.done = true
		return ErrTLS
	}
	if o.done || off < 0 || off > o.n || off+len(data) <= o.n {
		return nil
	}
	o.n += copy(o.b[o.n:], data[o.n-off:])
	why, more := fragileStart(o.b[:o.n])
	o.done = !more
	return why
}
