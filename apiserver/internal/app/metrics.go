package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var databaseSize = prometheus.NewDesc("apiserver_storage_size_bytes", "[STABLE] Size of the storage database file physically allocated in bytes.", []string{"storage_cluster_id"}, nil)

// How old the size may be that is told, and how long a server has to tell it.
const (
	sizeAge     = 30 * time.Second
	sizeTimeout = 2 * time.Second
)

// storeSize tells how large etcd's database is. It asks when it is asked, and not often.
type storeSize struct {
	client *clientv3.Client

	mu    sync.Mutex // guards what follows
	asked time.Time
	sizes []int64 // by server
}

// Describe implements prometheus.Collector.
func (s *storeSize) Describe(ch chan<- *prometheus.Desc) { ch <- databaseSize }

// Collect implements prometheus.Collector. A server that does not answer is left out.
func (s *storeSize) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.asked) > sizeAge {
		s.asked, s.sizes = time.Now(), nil
		ctx, cancel := context.WithTimeout(context.Background(), sizeTimeout)
		defer cancel()
		endpoints := s.client.Endpoints()
		if len(endpoints) == 0 {
			endpoints = []string{""} // the server of this process
		}
		for _, endpoint := range endpoints {
			size := int64(-1)
			if status, err := s.client.Status(ctx, endpoint); err == nil {
				size = status.DbSize
			}
			s.sizes = append(s.sizes, size)
		}
	}
	for i, size := range s.sizes {
		if size >= 0 {
			ch <- prometheus.MustNewConstMetric(databaseSize, prometheus.GaugeValue, float64(size), fmt.Sprintf("etcd-%d", i))
		}
	}
}
