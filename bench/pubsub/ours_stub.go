package main

var newOurs = newTheirs
