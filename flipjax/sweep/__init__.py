"""The sweep command and all access to run folders."""
