"""The studio: a page in the browser that shows what a degradation is, what each step of a walk does, and what training learns.

It is thin over :class:`~snowmelt.model.Model` and the samplers. What it does are functions of models and tensors (:mod:`snowmelt.studio.work`) and
trainings in processes of their own (:mod:`snowmelt.studio.trainings`). Two faces show it: a page made with Gradio (:mod:`snowmelt.studio.page`) and
``POST /v1/...`` on the same process (:mod:`snowmelt.studio.web`), behind one :class:`~snowmelt.studio.gate.Gate`, so that limits are said once.
Nothing is fetched from anywhere, nothing leaves the machine. Needs ``pip install 'snowmelt[studio]'``.
"""
