"""A real Kubernetes of one node for the tests, made from its own parts: no Docker, no virtual machine, no network.

`python -m tests.cluster --help` lists the commands; `conftest.py` gives the fixtures. One room a file:

    places        names, addresses, versions, directories
    requirements  what this machine must have; installs it on Debian as root
    cache         builds a thing once and keeps it
    binaries      Kubernetes, CoreDNS and KWOK from their Go modules
    pki           certificates and kubeconfigs of the parts
    node          process 1 of the node's namespaces: starts the parts, reaps, ends with all of them
    processes     starts, asks and ends a node from outside
    network       the node's network, and how a test enters it
    components    command lines and configuration files of the parts
    health        asks the parts how they are
    cgroups       the control group of the node's pods
    image         base image, builds from a Dockerfile, loading into the node
    simulated     nodes and pods that are only played, in any number
    counting      stands before the API server and counts what is asked
    access        namespaces, users with few rights, extended resources
    lifecycle     up, down, status
    run_place     where the runs of a test are
    context       what a test talks to: this node, or a Kubernetes of the developer's own
"""
