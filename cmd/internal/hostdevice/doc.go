// Package hostdevice makes this machine a device: it measures processor, memory,
// load, disk and temperatures through gopsutil and sends them with client.
//
// Run uses two goroutines, its caller's to measure and one for the client, and
// returns when both have ended. What a system can't tell is sent as "no
// reading".
package hostdevice
