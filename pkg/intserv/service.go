package intserv

import (
	"fmt"
	"strconv"
)

// Service is a QoS control service by its RFC 2215 service number.
type Service uint8

// The service numbers in use.
const (
	// General is not a service: it heads the data that concerns all of them
	// (RFC 2215 section 2).
	General        Service = 1
	Guaranteed     Service = 2 // RFC 2212
	ControlledLoad Service = 5 // RFC 2211
	// Null asks for nothing that could be counted: what its traffic gets is for
	// policy to say (RFC 2997).
	Null Service = 6
)

// String returns the name the configuration file and the API use.
func (s Service) String() string {
	switch s {
	case General:
		return "general"
	case Guaranteed:
		return "guaranteed"
	case ControlledLoad:
		return "controlled-load"
	case Null:
		return "null"
	default:
		return "service-" + strconv.Itoa(int(s))
	}
}

// Requestable says whether the service is one that resources are asked for.
func (s Service) Requestable() bool { return s == Guaranteed || s == ControlledLoad }

// Known says whether a FlowSpec may name the service: those that can be
// requested, and the null service.
func (s Service) Known() bool { return s.Requestable() || s == Null }

// ParseService is the inverse of [Service.String] for the services a FlowSpec
// may ask for.
func ParseService(name string) (Service, error) {
	for _, s := range []Service{Guaranteed, ControlledLoad} {
		if name == s.String() {
			return s, nil
		}
	}
	return 0, fmt.Errorf("unknown service %q (%v or %v)", name, ControlledLoad, Guaranteed)
}

// MarshalText writes the service's name.
func (s Service) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a service's name.
func (s *Service) UnmarshalText(b []byte) error {
	v, err := ParseService(string(b))
	if err != nil {
		return err
	}
	*s = v
	return nil
}
