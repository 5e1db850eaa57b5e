// Package transfer moves files and directories over one stream, and leaves the
// receiver with what the sender has, or with an error and nothing half done
// under a file's own name.
//
// The sender lists what it has with [Scan] and calls [Send]; the receiver
// calls [Receive] with the directory to write to. Both take any [net.Conn]:
// package link gives one that is encrypted and knows who is at its other end;
// this package adds no secrecy.
//
// What is guaranteed:
//   - Every file is verified: its SHA-256 is computed by both ends while it
//     moves, and compared before the file gets its name.
//   - A file that broke off goes on where it ended when it is sent again, if the
//     first part still is what the sender has; its hash says so, not its date.
//   - Nothing outside the receiver's directory is read or written, whatever
//     names come; symbolic links are neither followed nor made; nothing that is
//     there is overwritten unless [ReceiveConfig.Overwrite] says so.
//   - The receiver never tells the sender the hash of a file of its own, so a
//     sender learns nothing about files that it cannot already guess.
//   - Who sends decides what is sent: a receiver can ask for nothing else.
//
// What is kept of a file: its content, its name, its time of modification and
// its permission bits under the receiver's umask. Owners, links, attributes
// and holes are not; long runs of zeroes become holes again where they can.
//
// docs/spec/transfer.md has the protocol, package wire its bytes.
package transfer
