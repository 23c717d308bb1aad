#!/bin/sh
# Stands in for the agent in the tests of how processes are started and ended. What it does is in the file
# `behaviour` beside the socket, which is named first on the command line.
. "$(dirname "$2")/behaviour"
