// Package static reads the configuration of admission from files: webhooks and policies that hold from the start, that nobody can change through the API, and
// that also see the requests which change those of the API, KEP-5793.
//
// Data in: a folder for each plugin, whose files are read again when they change. Data out: the plugins' view of the API, with the objects of the files before
// its own. Its goroutines are those of Run.
package static
