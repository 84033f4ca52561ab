package emulator

import "time"

// Counters of one direction. Frames in = delivered - duplicated + all drops +
// still in flight.
type Counters struct {
	Frames          uint64        `json:"frames"` // offered to the link
	Bytes           uint64        `json:"bytes"`
	Delivered       uint64        `json:"delivered"` // handed to the other end, duplicates included
	DeliveredBytes  uint64        `json:"delivered_bytes"`
	QueueDrops      uint64        `json:"queue_drops"`
	Losses          uint64        `json:"losses"`       // random, single and in bursts
	ScriptDrops     uint64        `json:"script_drops"` // by a test's script
	Reordered       uint64        `json:"reordered"`
	Duplicated      uint64        `json:"duplicated"`
	MaxQueueDelay   time.Duration `json:"max_queue_delay_ns"` // wait for the transmitter
	MaxBacklogBytes int           `json:"max_backlog_bytes"`
}
