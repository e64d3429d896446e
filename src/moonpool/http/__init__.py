"""The wire: the edge server, the upstream client with its pool, the SSE codec, and the limits of all three.

llhttp (httptools) parses; everything around it is ours, because it is on the path of every request and
every event. Nothing here knows routes, models or policies.
"""
