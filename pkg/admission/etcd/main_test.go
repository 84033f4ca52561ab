package etcd

import (
	"os"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/admission/etcd/etcdtest"
)

func TestMain(m *testing.M) {
	etcdtest.Member()
	os.Exit(m.Run())
}
