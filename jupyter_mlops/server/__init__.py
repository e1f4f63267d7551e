"""The Jupyter server extension: the core over REST and one websocket, under `/mlops`.

`routes` says what there is (and the OpenAPI description is made from it), the `*_api` files call the core, `handlers`
and `event_socket` are Tornado. Nothing here decides anything about runs.
"""
