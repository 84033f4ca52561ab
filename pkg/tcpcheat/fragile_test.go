package tcpcheat

import (
	"cmp"
	"errors"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// clientHello is the beginning of one as common programs send it.
var clientHello = append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 53)...)

func TestFragileStreams(t *testing.T) {
	for name, c := range map[string]struct {
		data string
		want error
	}{
		"ClientHello":                   {string(clientHello), ErrTLS},
		"ServerHello":                   {"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03", ErrTLS},
		"a ClientHello over records":    {"\x16\x03\x01\x00\x40\x01\x00\x06\xfc\x03\x03", ErrTLS},
		"SSH":                           {"SSH-2.0-OpenSSH_9.9\r\n", ErrSSH},
		"SSH after a line":              {"welcome\r\nSSH-2.0-x\r\n", ErrSSH},
		"HTTP/2":                        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ErrHTTP2},
		"SMB 2":                         {"\x00\x00\x00\x90\xfeSMB@", ErrSMB},
		"SMB 3 encrypted":               {"\x00\x00\x00\x90\xfdSMB@", ErrSMB},
		"HTTP":                          {"GET / HTTP/1.1\r\nHost: x\r\n", nil},
		"a handshake that is too short": {"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\x03", nil},
		"application data":              {"\x17\x03\x03\x00\x50\x01\x00\x00\x46\x03\x03", nil},
		"nearly SSH":                    {"SSH", nil},
		"nothing":                       {"", nil},
	} {
		if got, _ := fragileStart([]byte(c.data)); !errors.Is(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestFragilePorts(t *testing.T) {
	for port, want := range map[uint16]error{22: ErrSSH, 443: ErrTLS, 993: ErrTLS, 445: ErrSMB, 179: ErrTLSPort, 80: nil, 104: nil, 5201: nil} {
		key := packet.FlowKey{SrcPort: 40000, DstPort: port}
		if got := fragilePort(key); !errors.Is(got, want) {
			t.Errorf("to port %d: %v, want %v", port, got, want)
		}
		if got := fragilePort(key.Reverse()); !errors.Is(got, want) {
			t.Errorf("from port %d: %v, want %v", port, got, want)
		}
	}
}

// However a stream is cut into segments, repeated or delayed, it is recognised
// as it is in one piece.
func FuzzOpening(f *testing.F) {
	for _, s := range []string{
		string(clientHello), "SSH-2.0-x\r\n", "hello\r\nSSH-2.0-x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\x00\x00\x00\x90\xfeSMB@", "GET / HTTP/1.1\r\n", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\x03",
	} {
		f.Add([]byte(s), uint8(1), uint8(0))
		f.Add([]byte(s), uint8(7), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, step, back uint8) {
		whole := &opening{}
		want := whole.look(0, data)
		o := &opening{}
		var got error
		n := max(int(step), 1)
		for off := 0; off < len(data); off += n {
			from := max(off-int(back), 0) // the source repeats a part
			why := o.look(from, data[from:min(off+n, len(data))])
			ahead := o.look(off+2*n, data[off:]) // beyond a hole: a handshake or nothing
			if ahead != nil && !errors.Is(ahead, ErrTLS) {
				t.Fatalf("beyond a hole: %v", ahead)
			}
			if got == nil {
				got = cmp.Or(why, ahead)
			}
		}
		if want != nil && got == nil {
			t.Fatalf("in one piece %v, in pieces of %d not recognised", want, n)
		}
		if o.n > maxOpening || whole.n > maxOpening {
			t.Fatalf("%d bytes are kept", o.n)
		}
		if want == nil && got != nil && !errors.Is(got, ErrTLS) {
			// A handshake may begin in any segment; nothing else does.
			t.Fatalf("in pieces of %d %v, in one piece nothing", n, got)
		}
	})
}
