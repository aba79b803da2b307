package volume

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/gentype"

	"flagship/controller-manager/internal/loop"
)

type binder struct {
	loop.Deps
	claims  *loop.Source[corev1.PersistentVolumeClaim]
	volumes *loop.Source[corev1.PersistentVolume]
	classes *loop.Source[storagev1.StorageClass]
	w       *loop.Written
}

// NewBinder returns the persistentvolume-binder-controller: it binds claims to volumes, asks external provisioners for
// the volumes that are missing, and releases volumes whose claims are gone. One worker, since two claims must not choose
// the same volume. The keys are a claim's namespace/name or a volume's name.
func NewBinder(period time.Duration, d loop.Deps) *loop.Controller {
	c := &binder{Deps: d, claims: d.Sources.Claims(), volumes: d.Sources.Volumes(), classes: d.Sources.StorageClasses(), w: loop.NewWritten()}
	ctl := d.Controller(1, c.sync)
	loop.Watch(ctl, c.claims, func(e loop.Event[corev1.PersistentVolumeClaim]) []string {
		keys := []string{loop.Key(e.Now())}
		if name := e.Now().Spec.VolumeName; name != "" {
			keys = append(keys, name)
		}
		return keys
	})
	loop.Watch(ctl, c.volumes, func(e loop.Event[corev1.PersistentVolume]) []string {
		keys := []string{e.Now().Name}
		if r := e.Now().Spec.ClaimRef; r != nil {
			keys = append(keys, r.Namespace+"/"+r.Name)
		}
		return keys
	})
	loop.Need(ctl, c.classes)
	ctl.Every(period, func(context.Context) error {
		for _, claim := range c.claims.All() {
			if claim.Status.Phase != corev1.ClaimBound {
				ctl.Add(loop.Key(claim))
			}
		}
		return nil
	})
	return ctl
}

// everything is the one key of what was written: a choice looks at all volumes.
const everything = "*"

func (c *binder) claimAPI(ns string) *gentype.ClientWithList[*corev1.PersistentVolumeClaim, *corev1.PersistentVolumeClaimList] {
	return loop.Core[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](c.Deps, "persistentvolumeclaims", ns)
}

func (c *binder) volumeAPI() *gentype.ClientWithList[*corev1.PersistentVolume, *corev1.PersistentVolumeList] {
	return loop.Core[corev1.PersistentVolume, corev1.PersistentVolumeList](c.Deps, "persistentvolumes", "")
}

func (c *binder) sync(ctx context.Context, key string) error {
	if err := c.w.Wait(everything); err != nil {
		return err
	}
	ns, name := loop.Split(key)
	var err error
	if ns == "" {
		err = c.syncVolume(ctx, name)
	} else {
		err = c.syncClaim(ctx, ns, name)
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *binder) syncClaim(ctx context.Context, ns, name string) error {
	claim := c.claims.Get(ns, name)
	if claim == nil || claim.DeletionTimestamp != nil {
		return nil
	}
	if claim.Spec.VolumeName != "" {
		v := c.volumes.Get("", claim.Spec.VolumeName)
		switch {
		case v == nil && claim.Annotations[annBindCompleted] != "":
			return c.lost(ctx, claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
		case v == nil:
			return c.phase(ctx, claim, corev1.ClaimPending, nil)
		case v.Spec.ClaimRef == nil || refers(v, claim):
			return c.bind(ctx, claim, v)
		case claim.Annotations[annBindCompleted] != "":
			return c.lost(ctx, claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
		}
		c.Events.Eventf(claim, corev1.EventTypeWarning, "FailedBinding", "volume %q already bound to a different claim.", v.Name)
		return c.phase(ctx, claim, corev1.ClaimPending, nil)
	}
	class := c.classes.Get("", classOf(claim))
	if v := choose(claim, c.volumes.All()); v != nil && (!waits(claim, class) || refers(v, claim)) {
		return c.bind(ctx, claim, v)
	}
	return c.pending(ctx, claim, class)
}

// pending says why a claim is not bound, and asks for a volume where its class has a provisioner.
func (c *binder) pending(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	switch {
	case claim.Spec.StorageClassName == nil && claim.Annotations[corev1.BetaStorageClassAnnotation] == "" && newestDefault(c.classes.All()) != nil:
		next := claim.DeepCopy()
		next.Spec.StorageClassName = &newestDefault(c.classes.All()).Name
		got, err := c.claimAPI(claim.Namespace).Update(ctx, next, metav1.UpdateOptions{})
		if err == nil {
			c.w.Note(everything, c.claims, got)
		}
		return err
	case waits(claim, class):
		c.Events.Event(claim, corev1.EventTypeNormal, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	case class == nil && classOf(claim) != "":
		c.Events.Eventf(claim, corev1.EventTypeWarning, "ProvisioningFailed", "storageclass.storage.k8s.io %q not found", classOf(claim))
	case class == nil:
		c.Events.Event(claim, corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	case class.Provisioner == noProvisioner:
		c.Events.Event(claim, corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and its storage class has no provisioner")
	case claim.Annotations[annProvisioner] != class.Provisioner:
		next := claim.DeepCopy()
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations[annProvisioner], next.Annotations[annBetaProvisioner] = class.Provisioner, class.Provisioner
		got, err := c.claimAPI(claim.Namespace).Update(ctx, next, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		c.w.Note(everything, c.claims, got)
		claim = got
		fallthrough
	default:
		c.Events.Eventf(claim, corev1.EventTypeNormal, "ExternalProvisioning",
			"Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.Provisioner)
	}
	return c.phase(ctx, claim, corev1.ClaimPending, nil)
}

func (c *binder) lost(ctx context.Context, claim *corev1.PersistentVolumeClaim, reason, message string) error {
	if claim.Status.Phase == corev1.ClaimLost {
		return nil
	}
	c.Events.Event(claim, corev1.EventTypeWarning, reason, message)
	return c.phase(ctx, claim, corev1.ClaimLost, nil)
}

// phase writes a claim's status; v is the volume that it is bound to.
func (c *binder) phase(ctx context.Context, claim *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase, v *corev1.PersistentVolume) error {
	next := claim.DeepCopy()
	next.Status.Phase = phase
	if v == nil {
		next.Status.AccessModes, next.Status.Capacity = nil, nil
	} else {
		next.Status.AccessModes = v.Spec.AccessModes
		if next.Status.Capacity == nil {
			next.Status.Capacity = v.Spec.Capacity
		}
	}
	if equality.Semantic.DeepEqual(next.Status, claim.Status) {
		return nil
	}
	got, err := c.claimAPI(claim.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err == nil {
		c.w.Note(everything, c.claims, got)
	}
	return err
}

// bind makes volume and claim name each other, the volume first, and sets their phases. Each step is safe to repeat.
func (c *binder) bind(ctx context.Context, claim *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) error {
	if r := v.Spec.ClaimRef; r == nil || r.UID != claim.UID {
		next := v.DeepCopy()
		if r == nil {
			annotate(&next.ObjectMeta, annBoundByController)
		}
		next.Spec.ClaimRef = &corev1.ObjectReference{
			APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
		}
		got, err := c.volumeAPI().Update(ctx, next, metav1.UpdateOptions{})
		if err != nil {
			return fmt.Errorf("reserve volume %s: %w", v.Name, err)
		}
		c.w.Note(everything, c.volumes, got)
		v = got
	}
	if err := c.volumePhase(ctx, v, corev1.VolumeBound); err != nil {
		return err
	}
	if claim.Spec.VolumeName != v.Name || claim.Annotations[annBindCompleted] == "" {
		next := claim.DeepCopy()
		if next.Spec.VolumeName != v.Name {
			next.Spec.VolumeName = v.Name
			annotate(&next.ObjectMeta, annBoundByController)
		}
		annotate(&next.ObjectMeta, annBindCompleted)
		got, err := c.claimAPI(claim.Namespace).Update(ctx, next, metav1.UpdateOptions{})
		if err != nil {
			return fmt.Errorf("bind claim %s: %w", loop.Key(claim), err)
		}
		c.w.Note(everything, c.claims, got)
		c.Decide("PersistentVolumeClaim", claim.Namespace, claim.Name, claim.UID, 0, "bound to volume "+v.Name)
		claim = got
	}
	return c.phase(ctx, claim, corev1.ClaimBound, v)
}

func annotate(m *metav1.ObjectMeta, key string) {
	if m.Annotations == nil {
		m.Annotations = map[string]string{}
	}
	m.Annotations[key] = "yes"
}

func (c *binder) volumePhase(ctx context.Context, v *corev1.PersistentVolume, phase corev1.PersistentVolumePhase) error {
	if v.Status.Phase == phase {
		return nil
	}
	next := v.DeepCopy()
	next.Status.Phase, next.Status.Message = phase, ""
	got, err := c.volumeAPI().UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err == nil {
		c.w.Note(everything, c.volumes, got)
	}
	return err
}

func (c *binder) syncVolume(ctx context.Context, name string) error {
	v := c.volumes.Get("", name)
	if v == nil {
		return nil
	}
	var claim *corev1.PersistentVolumeClaim
	if r := v.Spec.ClaimRef; r != nil {
		if claim = c.claims.Get(r.Namespace, r.Name); claim == nil || (r.UID != "" && claim.UID != r.UID) {
			live, err := c.claimAPI(r.Namespace).Get(ctx, r.Name, metav1.GetOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			claim = nil
			if err == nil {
				claim = live
			}
		}
	}
	phase := phaseOf(v, claim)
	if err := c.volumePhase(ctx, v, phase); err != nil || phase != corev1.VolumeReleased {
		return err
	}
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		c.Events.Event(v, corev1.EventTypeWarning, "VolumeFailedRecycle", "the Recycle policy is not supported: use dynamic provisioning or Retain")
		return c.volumePhase(ctx, v, corev1.VolumeFailed)
	}
	// Retain keeps the volume for an administrator; Delete is the external provisioner's to do, which watches for it.
	return nil
}
