package quota

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
)

// Services counts Services, their node ports and load balancers.
func Services() *Evaluator {
	names := []corev1.ResourceName{
		countName("", "services"), corev1.ResourceServices, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
	}
	return &Evaluator{
		counts: func(n corev1.ResourceName) bool { return slices.Contains(names, n) },
		Of: func(o runtime.Object) corev1.ResourceList {
			svc, ok := o.(*corev1.Service)
			if !ok {
				return nil
			}
			nodePorts, balancers := int64(0), int64(0)
			switch svc.Spec.Type {
			case corev1.ServiceTypeNodePort:
				nodePorts = int64(len(svc.Spec.Ports))
			case corev1.ServiceTypeLoadBalancer:
				balancers, nodePorts = 1, int64(len(svc.Spec.Ports))
				if b := svc.Spec.AllocateLoadBalancerNodePorts; b != nil && !*b {
					nodePorts = 0
					for _, port := range svc.Spec.Ports {
						if port.NodePort != 0 {
							nodePorts++
						}
					}
				}
			}
			return corev1.ResourceList{
				names[0]: one(), names[1]: one(),
				names[2]: *resource.NewQuantity(nodePorts, resource.DecimalSI),
				names[3]: *resource.NewQuantity(balancers, resource.DecimalSI),
			}
		},
	}
}
