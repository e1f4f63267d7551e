"""Container images for runs: which packages are in one, how it is built and pushed, and whether its versions fit.

An image is made from an environment, as a snapshot records it, so that the cluster runs what the person ran. Knows no
run, no Kubernetes and no credentials of a registry: a builder of the machine does the work and logs in by itself.

    lock.py          what of an environment goes into an image, from data
    projects.py      the wheels of packages that are in no index
    pip_settings.py  where the machine's pip looks, so that the build looks there too
    plan.py          the build context and its arguments, from data
    builders.py      the command lines of buildah, docker and podman
    build.py         runs them
    diagnosis.py     what their output says about a failure
    versions.py      versions of a client and an image compared; standard library only
"""
