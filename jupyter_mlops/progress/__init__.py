"""Live progress of a run, made only from its events, so that a late view shows what an early one shows.

`state` folds events into what is known; `words` says it; `terminal` and `render_html` draw it; `widget`
keeps a drawing fresh in a notebook. Knows events and the words of `spec`; knows no runner, no store, no
MLflow and no HTTP: whoever shows a run brings its events and a function that cancels it. Text of a run is
hostile here: it is shown, never obeyed.
"""
