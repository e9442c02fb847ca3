"""Language models behind one protocol: in this process, on a server, or scripted."""
