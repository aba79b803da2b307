// Command abuse sends our kube-apiserver what would bring a careless one down: bombs in every format that it reads, floods of
// connections, streams and frames, selectors, rules and patterns that cost much, names and paths that lead elsewhere.
//
// Data in: folders of binaries, and the attacks, an ordered table. Data out: per attack the answer, the time, the processor time and the
// memory that it took, the worst latency that a kubelet's lease and the health checks had meanwhile, and whether anything in etcd changed
// that should not have. An attack that gets another answer, goes over a bound, disturbs the others or leaves something behind has failed.
// Everything is on loopback and in one temporary folder; main owns the processes, and the prober its one goroutine.
package main
