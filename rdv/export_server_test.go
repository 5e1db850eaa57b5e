package rdv

// ReadCommand is readCommand.
var ReadCommand = readCommand
