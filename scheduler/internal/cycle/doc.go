// Package cycle decides where one pod goes: filter, then score.
//
// Data in: the cluster snapshot, a pod, a profile, and two numbers that stand for chance (where to begin looking, how to
// break ties). Data out: a Decision with the reason of every node that was refused. It is pure: the only thing that it does
// to the snapshot is to place nominated pods for the length of a check, and to take them off again.
package cycle
