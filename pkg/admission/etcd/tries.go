package etcd

import (
	"context"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// tries notes what requests meet. The client sends one again until its time is over,
// and its own error then tells nothing else.
type tries struct{ last atomic.Pointer[string] }

// intercept sees each try.
func (m *tries) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if met := cause(err); err == nil || met != "" {
		m.last.Store(&met)
	}
	return err
}

// met is what the last try met, if none has succeeded since.
func (m *tries) met() string {
	if p := m.last.Load(); p != nil {
		return *p
	}
	return ""
}

// cause is why a try failed, without what the transport adds; "": its time was over,
// and no more is known.
func cause(err error) string {
	s := status.Convert(err)
	why := s.Message()
	switch s.Code() {
	case codes.OK:
		return ""
	case codes.DeadlineExceeded, codes.Canceled:
		found := false
		if _, why, found = strings.Cut(why, "latest balancer error: "); !found {
			return ""
		}
	default:
	}
	if _, inner, ok := strings.Cut(why, `desc = "`); ok {
		why = strings.TrimSuffix(inner, `"`)
	}
	return strings.TrimPrefix(why, "transport: ")
}
